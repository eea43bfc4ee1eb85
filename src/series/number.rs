//! A number that was given out.

use std::fmt;

/// A number of a [`NumberSeries`](crate::NumberSeries) or a [`UniqueSeries`](crate::UniqueSeries).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SeriesNumber {
    value: i64,
    period: String,
    text: String,
}

impl SeriesNumber {
    pub(super) fn new(value: i64, period: String, text: String) -> Self {
        Self {
            value,
            period,
            text,
        }
    }

    /// What counts: 7.
    pub fn value(&self) -> i64 {
        self.value
    }

    /// The year or the month: `2026`, `2026-03`. `None` in a series that does not begin anew.
    pub fn period(&self) -> Option<&str> {
        Some(&*self.period).filter(|period| !period.is_empty())
    }

    /// As it is printed: `INV-AXO-2026-00007`.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// As it is printed.
impl fmt::Display for SeriesNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}
