//! Reading the trail.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use crate::error::Error;
use crate::reader::Reader;

/// Which entries, the newest first unless said otherwise.
///
/// Numbers are given in the order of commits, so a page has no gap that fills later, and the next
/// one begins beyond the last number of this one.
#[derive(Clone)]
#[must_use = "a query is only a description, see `Trail::page`"]
pub struct TrailQuery {
    oldest_first: bool,
    beyond: Option<i64>,
    object: Option<(String, String)>,
    limit: u32,
}

impl TrailQuery {
    /// The 100 newest entries.
    #[expect(
        clippy::new_without_default,
        reason = "it says more than `default` would"
    )]
    pub fn new() -> Self {
        Self {
            oldest_first: false,
            beyond: None,
            object: None,
            limit: 100,
        }
    }

    /// The oldest first.
    pub fn oldest_first(mut self) -> Self {
        self.oldest_first = true;
        self
    }

    /// The page behind the entry of this number: older ones, or newer ones where the oldest come
    /// first.
    pub fn beyond(mut self, number: i64) -> Self {
        self.beyond = Some(number);
        self
    }

    /// Only entries about this.
    pub fn object(mut self, kind: impl Into<String>, id: impl fmt::Display) -> Self {
        self.object = Some((kind.into(), id.to_string()));
        self
    }

    /// At most so many. Default 100.
    pub fn limit(mut self, entries: u32) -> Self {
        self.limit = entries;
        self
    }

    pub(super) async fn run(&self, reader: &mut Reader<'_>) -> Result<Vec<TrailRecord>, Error> {
        // Four texts, so that each has the plan that fits it.
        let text = match (self.object.is_some(), self.oldest_first) {
            (false, false) => page!("number < $1 AND $3 IS NULL AND $4 IS NULL", "DESC"),
            (false, true) => page!("number > $1 AND $3 IS NULL AND $4 IS NULL", "ASC"),
            (true, false) => page!(
                "number < $1 AND object_kind = $3 AND object_id = $4",
                "DESC"
            ),
            (true, true) => page!("number > $1 AND object_kind = $3 AND object_id = $4", "ASC"),
        };
        let before_all = if self.oldest_first { 0 } else { i64::MAX };
        let (kind, id) = self.object.as_ref().map(|(kind, id)| (kind, id)).unzip();
        let rows = sqlx::query(text)
            .bind(self.beyond.unwrap_or(before_all))
            .bind(i64::from(self.limit))
            .bind(kind)
            .bind(id)
            .fetch_all(reader)
            .await?;
        let records = rows.iter().map(TrailRecord::read);
        Ok(records.collect::<Result<_, sqlx::Error>>()?)
    }
}

macro_rules! page {
    ($condition:literal, $order:literal) => {
        concat!(
            "SELECT number, (extract(epoch FROM at) * 1000000)::bigint AS micros, actor, action, \
             object_kind, object_id, before, after FROM tenantry.trail WHERE ",
            $condition,
            " ORDER BY number ",
            $order,
            " LIMIT $2"
        )
    };
}
use page;

/// An entry of a [`Trail`](crate::Trail).
#[derive(Clone, PartialEq)]
pub struct TrailRecord {
    number: i64,
    at: SystemTime,
    actor: Option<String>,
    action: String,
    object: Option<(String, String)>,
    before: Option<Value>,
    after: Option<Value>,
}

impl TrailRecord {
    /// Which one: 1 is the first that the tenant committed.
    pub fn number(&self) -> i64 {
        self.number
    }

    /// When it was recorded, by the server's clock. An entry with a higher number was committed
    /// later, and may have been recorded earlier.
    pub fn at(&self) -> SystemTime {
        self.at
    }

    /// The user of the context it was recorded in.
    pub fn actor(&self) -> Option<&str> {
        self.actor.as_deref()
    }

    /// What was done.
    pub fn action(&self) -> &str {
        &self.action
    }

    /// What it was done to: kind and id.
    pub fn object(&self) -> Option<(&str, &str)> {
        self.object.as_ref().map(|(kind, id)| (&**kind, &**id))
    }

    /// What was there before.
    pub fn before(&self) -> Option<&Value> {
        self.before.as_ref()
    }

    /// What was there afterwards.
    pub fn after(&self) -> Option<&Value> {
        self.after.as_ref()
    }

    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        let micros: i64 = row.try_get("micros")?;
        let distance = Duration::from_micros(micros.unsigned_abs());
        let at = match micros {
            0.. => SystemTime::UNIX_EPOCH + distance,
            _ => SystemTime::UNIX_EPOCH - distance,
        };
        let kind: Option<String> = row.try_get("object_kind")?;
        Ok(Self {
            number: row.try_get("number")?,
            at,
            actor: row.try_get("actor")?,
            action: row.try_get("action")?,
            object: kind.zip(row.try_get("object_id")?),
            before: row.try_get("before")?,
            after: row.try_get("after")?,
        })
    }
}

/// Without the object: it is somebody's data.
impl fmt::Debug for TrailQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrailQuery")
            .field("oldest_first", &self.oldest_first)
            .field("beyond", &self.beyond)
            .field("has_object", &self.object.is_some())
            .field("limit", &self.limit)
            .finish()
    }
}

/// Without the values and the actor: they are somebody's data.
impl fmt::Debug for TrailRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrailRecord")
            .field("number", &self.number)
            .field("action", &self.action)
            .finish_non_exhaustive()
    }
}
