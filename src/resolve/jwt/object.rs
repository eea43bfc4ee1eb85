//! The members of a JSON object that matter.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

/// The members that were asked for, each at most once.
pub(super) struct Object(BTreeMap<String, Value>);

impl Object {
    /// `None` if the text is not one JSON object, nests too deeply, or has one of the members twice:
    /// of two values one reader takes the first and another the last.
    pub(super) fn parse(text: &[u8], members: &[&str]) -> Option<Self> {
        // serde_json looks at no text that it skips; what is not UTF-8 is not JSON either.
        let text = std::str::from_utf8(text).ok()?;
        let mut json = serde_json::Deserializer::from_str(text);
        let object = json.deserialize_map(Members(members)).ok()?;
        json.end().ok()?;
        Some(object)
    }

    pub(super) fn get(&self, member: &str) -> Option<&Value> {
        self.0.get(member)
    }
}

struct Members<'m>(&'m [&'m str]);

impl<'de> Visitor<'de> for Members<'_> {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
        let mut found = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            if !self.0.contains(&name.as_str()) {
                map.next_value::<IgnoredAny>()?;
            } else if found.insert(name, map.next_value()?).is_some() {
                return Err(A::Error::custom("a member is there twice"));
            }
        }
        Ok(Object(found))
    }
}
