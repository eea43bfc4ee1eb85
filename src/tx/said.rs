//! Whether a transaction has a context, where arguments alone say it.

/// The depth of savepoints at which an argument said the context first, and which was not rolled
/// back since. The seal is a local setting, and goes with the savepoint that it was made in.
#[derive(Debug, Default)]
pub(super) struct Said(Option<usize>);

impl Said {
    pub(super) fn is_said(&self) -> bool {
        self.0.is_some()
    }

    /// The server has taken an argument while so many savepoints were set.
    pub(super) fn at(&mut self, depth: usize) {
        self.released(depth);
        self.0.get_or_insert(depth);
    }

    /// So many savepoints are left, and what was done in the others is kept.
    pub(super) fn released(&mut self, depth: usize) {
        self.0 = self.0.map(|said| said.min(depth));
    }

    /// So many savepoints are left, and what was done in the others is undone.
    pub(super) fn rolled_back(&mut self, depth: usize) {
        self.0 = self.0.filter(|said| *said <= depth);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_with_the_savepoint_in_which_it_was_said() {
        let mut said = Said::default();
        assert!(!said.is_said());
        said.at(2);
        said.rolled_back(2);
        assert!(said.is_said());
        said.rolled_back(1);
        assert!(!said.is_said());
    }

    #[test]
    fn a_release_keeps_it_one_level_further_out() {
        let mut said = Said::default();
        said.at(2);
        said.released(1);
        said.rolled_back(1);
        assert!(said.is_said());
        said.rolled_back(0);
        assert!(!said.is_said());
    }

    #[test]
    fn what_was_said_first_counts() {
        let mut said = Said::default();
        said.at(0);
        said.at(3);
        said.rolled_back(0);
        assert!(said.is_said());
        let mut said = Said::default();
        said.at(3);
        said.at(1);
        said.rolled_back(1);
        assert!(said.is_said());
    }
}
