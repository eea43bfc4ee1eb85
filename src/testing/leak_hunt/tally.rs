//! How turns ended.

use std::collections::BTreeMap;

use super::fate::End;
use crate::error::{Error, ErrorKind};

/// How the turns of one kind of operation ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ends {
    /// To the end, without an error.
    pub done: u64,
    /// Dropped while they were under way.
    pub cancelled: u64,
    /// Dropped by a time-out while they were under way.
    pub timed_out: u64,
    /// By a panic.
    pub panicked: u64,
    /// By an error, with its kind.
    pub refused: BTreeMap<String, u64>,
}

impl Ends {
    /// All of them but for the refused ones.
    pub fn carried_out(&self) -> u64 {
        self.done + self.cancelled + self.timed_out + self.panicked
    }

    /// How many were refused.
    pub fn refusals(&self) -> u64 {
        self.refused.values().sum()
    }

    pub(super) fn count(&mut self, end: &End<Result<(), Error>>) {
        match end {
            End::Done(Ok(())) => self.done += 1,
            End::Done(Err(error)) => {
                *self.refused.entry(name_of(error)).or_default() += 1;
            }
            End::Cancelled => self.cancelled += 1,
            End::TimedOut | End::Stuck => self.timed_out += 1,
            End::Panicked | End::PanickedItself => self.panicked += 1,
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.done += other.done;
        self.cancelled += other.cancelled;
        self.timed_out += other.timed_out;
        self.panicked += other.panicked;
        for (kind, count) in &other.refused {
            *self.refused.entry(kind.clone()).or_default() += count;
        }
    }
}

/// The kind, and the code where the kind alone says little.
pub(super) fn name_of(error: &Error) -> String {
    match (error.kind(), error.code()) {
        (kind @ (ErrorKind::Database | ErrorKind::Commit), Some(code)) => {
            format!("{kind:?} {code}")
        }
        (kind, _) => format!("{kind:?}"),
    }
}

/// The ends of all turns, by operation.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally(BTreeMap<&'static str, Ends>);

impl Tally {
    pub(super) fn count(&mut self, operation: &'static str, end: &End<Result<(), Error>>) {
        self.0.entry(operation).or_default().count(end);
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (operation, ends) in &other.0 {
            self.0.entry(operation).or_default().add(ends);
        }
    }

    pub(super) fn by_operation(&self) -> &BTreeMap<&'static str, Ends> {
        &self.0
    }

    pub(super) fn total(&self) -> Ends {
        let mut total = Ends::default();
        self.0.values().for_each(|ends| total.add(ends));
        total
    }
}
