//! Counts, and what is said of them in the end.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::operation::Verdict;

#[derive(Debug, Default)]
pub struct Tally {
    pub requests: u64,
    pub ok: u64,
    pub refused: BTreeMap<String, u64>,
    /// The client hung up before the answer came.
    pub hung_up: u64,
    /// The connection to the service went: no answer came.
    pub unanswered: u64,
    pub rows: u64,
    pub foreign: u64,
    /// When the first row of another tenant came.
    pub first_foreign: Option<(u64, Duration)>,
    /// The first few, and how many more there are.
    pub unexpected: Vec<String>,
    pub more_unexpected: u64,
    pub elapsed: Duration,
}

const SHOWN: usize = 5;

impl Tally {
    pub fn answered(&mut self, number: u64, at: Duration, verdict: Verdict) {
        match verdict.refused {
            Some(name) => *self.refused.entry(name).or_default() += 1,
            None => self.ok += 1,
        }
        self.rows += verdict.rows;
        self.foreign += verdict.foreign;
        if verdict.foreign > 0 && self.first_foreign.is_none() {
            self.first_foreign = Some((number, at));
        }
        if let Some(text) = verdict.unexpected {
            self.unexpected(text);
        }
    }

    fn unexpected(&mut self, text: String) {
        match self.unexpected.len() {
            0..SHOWN => self.unexpected.push(text),
            _ => self.more_unexpected += 1,
        }
    }

    pub fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.ok += other.ok;
        for (name, count) in other.refused {
            *self.refused.entry(name).or_default() += count;
        }
        self.hung_up += other.hung_up;
        self.unanswered += other.unanswered;
        self.rows += other.rows;
        self.foreign += other.foreign;
        self.first_foreign = [self.first_foreign, other.first_foreign]
            .into_iter()
            .flatten()
            .min();
        self.more_unexpected += other.more_unexpected;
        for text in other.unexpected {
            self.unexpected(text);
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f64();
        write!(
            f,
            "{} requests in {seconds:.1} s ({:.0}/s), {} ok",
            self.requests,
            self.requests as f64 / seconds,
            self.ok
        )?;
        for (name, count) in &self.refused {
            write!(f, ", {count} {name}")?;
        }
        let unexpected = self.unexpected.len() as u64 + self.more_unexpected;
        write!(
            f,
            ", {} hung up, {} unanswered, {unexpected} unexpected; \
             foreign rows in answers: {} of {}",
            self.hung_up, self.unanswered, self.foreign, self.rows,
        )?;
        if let Some((number, at)) = self.first_foreign {
            let seconds = at.as_secs_f64();
            write!(f, ", the first in request {number} after {seconds:.2} s")?;
        }
        Ok(())
    }
}
