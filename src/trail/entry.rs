//! What is recorded.

use std::fmt;

use serde_json::Value;
use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;

use crate::error::{Error, ErrorKind};

/// What was done, to what, and what it was like before and after. Who did it is the context's to
/// say, and when is the server's.
#[derive(Clone, PartialEq)]
#[must_use = "an entry is only a description, see `Trail::record`"]
pub struct TrailEntry {
    action: String,
    object: Option<(String, String)>,
    before: Option<Value>,
    after: Option<Value>,
}

impl TrailEntry {
    /// An action by name, `invoice.pay` for example: 1 to 200 bytes.
    pub fn new(action: impl Into<String>) -> Self {
        Self {
            action: action.into(),
            object: None,
            before: None,
            after: None,
        }
    }

    /// What it was done to: a kind of up to 200 bytes, and which one in up to 1,000. Pages can be
    /// asked for by it.
    pub fn object(mut self, kind: impl Into<String>, id: impl fmt::Display) -> Self {
        self.object = Some((kind.into(), id.to_string()));
        self
    }

    /// What was there before.
    pub fn before(mut self, value: impl Into<Value>) -> Self {
        self.before = Some(value.into());
        self
    }

    /// What is there now.
    pub fn after(mut self, value: impl Into<Value>) -> Self {
        self.after = Some(value.into());
        self
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let refuse = |rule| Err(Error::new(ErrorKind::InvalidOption, rule));
        let mut object = self.object.iter();
        if object.any(|(kind, id)| kind.len() > MAX_KIND || id.len() > MAX_ID) {
            return refuse(
                "the object of an entry has a kind of at most 200 bytes and an id of at most 1,000",
            );
        }
        let object = self.object.iter().flat_map(|(kind, id)| [kind, id]);
        let has_nul = |text: &String| text.contains('\0');
        if !(1..=200).contains(&self.action.len())
            || has_nul(&self.action)
            || object.into_iter().any(has_nul)
        {
            return refuse(
                "the action of an entry has 1 to 200 bytes, and neither it nor its object a NUL \
                 byte",
            );
        }
        Ok(())
    }

    /// In the order in which `tenantry.record_in_trail` takes it.
    pub(super) fn bind<'q>(
        &'q self,
        query: Query<'q, Postgres, PgArguments>,
    ) -> Query<'q, Postgres, PgArguments> {
        let (kind, id) = self.object.as_ref().map(|(kind, id)| (kind, id)).unzip();
        query
            .bind(&self.action)
            .bind(kind)
            .bind(id)
            .bind(&self.before)
            .bind(&self.after)
    }
}

/// What an index over both has room for: it is written when the transaction commits, and an entry
/// that does not fit would fail it then.
const MAX_KIND: usize = 200;
const MAX_ID: usize = 1_000;

/// Without the values: they are somebody's data.
impl fmt::Debug for TrailEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrailEntry")
            .field("action", &self.action)
            .finish_non_exhaustive()
    }
}
