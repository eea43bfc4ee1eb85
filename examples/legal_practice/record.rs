//! The audit log, as it is shown.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tenantry::{TrailRecord, TrailReport};
use utoipa::ToSchema;

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Entry {
    pub number: i64,
    /// Microseconds since 1970, by the clock of the database.
    pub at: i64,
    pub actor: Option<String>,
    pub action: String,
    pub object_kind: Option<String>,
    pub object_id: Option<String>,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

impl From<&TrailRecord> for Entry {
    fn from(record: &TrailRecord) -> Self {
        let since = record.at().duration_since(SystemTime::UNIX_EPOCH);
        let (kind, id) = record.object().unzip();
        Self {
            number: record.number(),
            at: since.map_or(0, |since| since.as_micros() as i64),
            actor: record.actor().map(str::to_owned),
            action: record.action().to_owned(),
            object_kind: kind.map(str::to_owned),
            object_id: id.map(str::to_owned),
            before: record.before().cloned(),
            after: record.after().cloned(),
        }
    }
}

/// Which part of the log is wanted: what is older than the entry of this number, or the newest.
#[derive(Default, Deserialize)]
pub struct Older {
    pub than: Option<i64>,
    /// At most so many, 100 unless said otherwise.
    pub limit: Option<u32>,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Verification {
    /// Whether every entry is there and as it was recorded.
    pub sound: bool,
    pub entries: i64,
    /// The first entry that is missing or was changed.
    pub broken_at: Option<i64>,
}

impl From<TrailReport> for Verification {
    fn from(report: TrailReport) -> Self {
        Self {
            sound: report.is_sound(),
            entries: report.entries(),
            broken_at: report.broken_at(),
        }
    }
}
