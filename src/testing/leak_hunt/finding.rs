//! One thing that must not be.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use super::canary::Place;
use super::turn::Turn;

/// One thing that must not be. It names tenants and turns, and holds nothing else of what was read.
#[derive(Clone, Debug)]
pub struct Finding {
    kind: FindingKind,
    tenant: String,
    whose: Option<String>,
    operation: Option<&'static str>,
    turn: Option<Place>,
    written_by: Option<Place>,
    note: Option<Cow<'static, str>>,
    at: Duration,
}

/// What kind of thing must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FindingKind {
    /// A tenant was shown another's row, or a setting of another's context.
    ForeignRow,
    /// A row stands among the rows of a tenant who did not write it.
    StoredForAnother,
    /// An answer was that to another question.
    CrossedAnswer,
    /// What another turn had set was still set on the session.
    TraceOnSession,
    /// A row was seen by others or kept, although it was never committed.
    NeverCommitted,
    /// A write was confirmed, and is not there.
    Lost,
    /// A tenant was shown none of its own rows.
    OwnRowsMissing,
    /// At the end somebody is not served, or a connection does not come back.
    Stuck,
    /// A panic that nobody planned.
    Panic,
    /// It could not be looked at what is in the tables.
    NotLookedAt,
}

impl Finding {
    pub(super) fn new(kind: FindingKind, tenant: impl Into<String>) -> Self {
        Self {
            kind,
            tenant: tenant.into(),
            whose: None,
            operation: None,
            turn: None,
            written_by: None,
            note: None,
            at: Duration::ZERO,
        }
    }

    pub(super) fn of(turn: &Turn, kind: FindingKind) -> Self {
        let mut finding = Self::new(kind, turn.tenant().as_str());
        finding.operation = Some(turn.operation());
        finding.turn = Some(turn.place());
        finding
    }

    pub(super) fn whose(mut self, tenant: &str) -> Self {
        self.whose = Some(tenant.to_owned());
        self
    }

    pub(super) fn operation(mut self, operation: &'static str) -> Self {
        self.operation = Some(operation);
        self
    }

    pub(super) fn written_by(mut self, turn: Place) -> Self {
        self.written_by = Some(turn);
        self
    }

    pub(super) fn note(mut self, note: impl Into<Cow<'static, str>>) -> Self {
        self.note = Some(note.into());
        self
    }

    pub(super) fn at(mut self, at: Duration) -> Self {
        self.at = at;
        self
    }

    /// What it is.
    pub fn kind(&self) -> FindingKind {
        self.kind
    }

    /// Who saw it, or among whose rows it was found.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Whose row it was, where there is one.
    pub fn owner(&self) -> Option<&str> {
        self.whose.as_deref()
    }

    /// What was being done: one of [`Subject::operations`](super::Subject::operations).
    pub fn doing(&self) -> Option<&'static str> {
        self.operation
    }

    /// The task, and the number of its turn: with the seed they decide which tenant's turn it was,
    /// what was done, and what was done to it.
    pub fn turn(&self) -> Option<(u32, u64)> {
        self.turn.map(|place| (place.task, place.number))
    }

    /// How long the hunt had been going on.
    pub fn after(&self) -> Duration {
        self.at
    }
}

impl FindingKind {
    fn text(self) -> &'static str {
        match self {
            Self::ForeignRow => "was shown a row",
            Self::StoredForAnother => "has a row",
            Self::CrossedAnswer => "got the answer to another question",
            Self::TraceOnSession => "found on its session what was set",
            Self::NeverCommitted => "has, or was shown, a row that was never committed",
            Self::Lost => "has not what was confirmed as written",
            Self::OwnRowsMissing => "was shown none of its own rows",
            Self::Stuck => "is stuck",
            Self::Panic => "met a panic that nobody planned",
            Self::NotLookedAt => "was not looked at",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} s: {}", self.at.as_secs_f64(), self.tenant)?;
        if let Some(operation) = self.operation {
            write!(f, " ({operation})")?;
        }
        if let Some(turn) = self.turn {
            write!(f, " in turn {turn}")?;
        }
        write!(f, " {}", self.kind.text())?;
        if let Some(whose) = &self.whose {
            write!(f, " of {whose}")?;
        }
        if let Some(turn) = self.written_by {
            write!(f, ", from turn {turn}")?;
        }
        if let Some(note) = &self.note {
            write!(f, ": {note}")?;
        }
        Ok(())
    }
}
