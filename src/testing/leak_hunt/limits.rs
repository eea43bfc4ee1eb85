//! How long a hunt goes on, and from which seed.

use std::env;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) seed: u64,
    pub(super) duration: Option<Duration>,
    pub(super) operations: Option<u64>,
}

const SECONDS: &str = "TENANTRY_LEAK_HUNT_SECONDS";
const OPERATIONS: &str = "TENANTRY_LEAK_HUNT_OPERATIONS";
const SEED: &str = "TENANTRY_LEAK_HUNT_SEED";

impl Limits {
    /// What the environment says, else what the code says.
    pub(super) fn from_environment(self) -> Self {
        self.with(number(SECONDS), number(OPERATIONS), number(SEED))
    }

    fn with(mut self, seconds: Option<u64>, operations: Option<u64>, seed: Option<u64>) -> Self {
        if seconds.is_some() || operations.is_some() {
            self.duration = seconds.map(Duration::from_secs);
            self.operations = operations;
        }
        self.seed = seed.unwrap_or(self.seed);
        self
    }
}

fn number(name: &str) -> Option<u64> {
    let text = env::var_os(name)?;
    let number = text.to_str().and_then(|text| text.trim().parse().ok());
    assert!(number.is_some(), "{name} is not a number");
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_goes_first() {
        let code = Limits {
            seed: 1,
            duration: Some(Duration::from_secs(3)),
            operations: Some(500),
        };
        assert_eq!(code.with(None, None, None), code);
        let long = code.with(Some(3_600), None, Some(9));
        assert_eq!(
            (long.duration, long.operations),
            (Some(Duration::from_secs(3_600)), None)
        );
        assert_eq!(long.seed, 9);
        let many = code.with(None, Some(5_000_000), None);
        assert_eq!((many.duration, many.operations), (None, Some(5_000_000)));
    }
}
