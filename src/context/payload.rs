//! A context as part of a message, such as the payload of a job, on its way in.
//!
//! By hand, because the errors that serde derives repeat what they did not expect: "invalid type:
//! integer `4711`" is somebody's user in somebody's log. `serde_json` writes the same by itself when
//! it is asked for a string and holds a number, so it is asked for anything: what comes is for the
//! visitor to judge.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Unexpected, Visitor};

use super::TenantContext;
use crate::tenant::TenantId;

const FIELDS: [&str; 3] = ["tenant", "user", "settings"];

impl<'de> Deserialize<'de> for TenantContext {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return deserializer.deserialize_any(Form);
        }
        deserializer.deserialize_struct("TenantContext", &FIELDS, Form)
    }
}

/// The methods of a visitor for what it does not expect and must not repeat.
macro_rules! refuse_in_silence {
    ($($method:ident($of:ty)),*) => {
        $(fn $method<E: de::Error>(self, _: $of) -> Result<Self::Value, E> {
            Err(E::invalid_type(Unexpected::Other("something else"), &self))
        })*
    };
}

struct Form;

impl<'de> Visitor<'de> for Form {
    type Value = TenantContext;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tenant context")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<TenantContext, A::Error> {
        let (mut tenant, mut user, mut settings) = (None, None, None);
        while let Some(field) = fields.next_key::<String>()? {
            let is_second = match field.as_str() {
                "tenant" => tenant.replace(fields.next_value::<Text>()?).is_some(),
                "user" => user.replace(fields.next_value::<Option<Text>>()?).is_some(),
                "settings" => settings.replace(fields.next_value::<Settings>()?).is_some(),
                _ => return Err(de::Error::unknown_field(&field, &FIELDS)),
            };
            if is_second {
                return Err(de::Error::custom("a field of a tenant context comes twice"));
            }
        }
        let Text(tenant) = tenant.ok_or_else(|| de::Error::missing_field("tenant"))?;
        Ok(TenantContext {
            tenant: TenantId::try_from(tenant).map_err(de::Error::custom)?,
            user: user.flatten().map(|Text(user)| user),
            settings: settings.map(|Settings(map)| map).unwrap_or_default(),
        })
    }

    refuse_in_silence!(
        visit_bool(bool),
        visit_i64(i64),
        visit_i128(i128),
        visit_u64(u64),
        visit_u128(u128),
        visit_f64(f64),
        visit_str(&str),
        visit_bytes(&[u8])
    );
}

struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return deserializer.deserialize_any(TextVisitor);
        }
        deserializer.deserialize_string(TextVisitor)
    }
}

struct TextVisitor;

impl Visitor<'_> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
        Ok(Text(text.to_owned()))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Text, E> {
        Ok(Text(text))
    }

    refuse_in_silence!(
        visit_bool(bool),
        visit_i64(i64),
        visit_i128(i128),
        visit_u64(u64),
        visit_u128(u128),
        visit_f64(f64),
        visit_bytes(&[u8])
    );
}

struct Settings(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return deserializer.deserialize_any(SettingsVisitor);
        }
        deserializer.deserialize_map(SettingsVisitor)
    }
}

struct SettingsVisitor;

impl<'de> Visitor<'de> for SettingsVisitor {
    type Value = Settings;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of settings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Settings, A::Error> {
        let mut settings = BTreeMap::new();
        while let Some((name, Text(value))) = entries.next_entry::<String, Text>()? {
            if settings.insert(name, value).is_some() {
                return Err(de::Error::custom(
                    "a setting of a tenant context comes twice",
                ));
            }
        }
        Ok(Settings(settings))
    }

    refuse_in_silence!(
        visit_bool(bool),
        visit_i64(i64),
        visit_i128(i128),
        visit_u64(u64),
        visit_u128(u128),
        visit_f64(f64),
        visit_str(&str),
        visit_bytes(&[u8])
    );
}
