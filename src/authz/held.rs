//! What a user may do in one tenant.

use super::decision::Decision;
use super::permission::{ANY, Permission, PermissionPattern};

/// What the roles of a user come to, those they inherit from included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    is_member: bool,
    granted: Patterns,
    denied: Patterns,
}

/// In order, so that one is found without looking at all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Patterns(Box<[PermissionPattern]>);

impl Held {
    pub(super) fn new(
        is_member: bool,
        granted: Vec<PermissionPattern>,
        denied: Vec<PermissionPattern>,
    ) -> Self {
        Self {
            is_member,
            granted: Patterns::new(granted),
            denied: Patterns::new(denied),
        }
    }

    pub(super) fn is_member(&self) -> bool {
        self.is_member
    }

    /// A deny beats every grant.
    pub(super) fn decide(&self, permission: &Permission) -> Decision {
        if self.is_member && !self.denied.cover(permission) && self.granted.cover(permission) {
            Decision::Granted
        } else {
            Decision::Denied
        }
    }

    /// How many patterns there are.
    pub(super) fn len(&self) -> usize {
        self.granted.0.len() + self.denied.0.len()
    }

    #[cfg(feature = "redis")]
    pub(super) fn granted(&self) -> &[PermissionPattern] {
        &self.granted.0
    }

    #[cfg(feature = "redis")]
    pub(super) fn denied(&self) -> &[PermissionPattern] {
        &self.denied.0
    }
}

impl Patterns {
    fn new(mut patterns: Vec<PermissionPattern>) -> Self {
        patterns.sort_unstable();
        patterns.dedup();
        Self(patterns.into())
    }

    fn cover(&self, permission: &Permission) -> bool {
        let (resource, action) = (permission.resource(), permission.action());
        !self.0.is_empty()
            && (self.has(resource, action)
                || self.has(resource, ANY)
                || self.has(ANY, action)
                || self.has(ANY, ANY))
    }

    fn has(&self, resource: &str, action: &str) -> bool {
        self.0
            .binary_search_by(|pattern| {
                (pattern.resource(), pattern.action()).cmp(&(resource, action))
            })
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern() -> impl Strategy<Value = PermissionPattern> {
        let part = || prop::sample::select(vec!["*", "a", "b", "ab"]);
        (part(), part()).prop_map(|(resource, action)| {
            PermissionPattern::of(resource, action).expect("of the grammar")
        })
    }

    proptest! {
        #[test]
        fn decides_as_one_pattern_after_the_other_does(
            is_member: bool,
            granted in prop::collection::vec(pattern(), 0..6),
            denied in prop::collection::vec(pattern(), 0..3),
        ) {
            let held = Held::new(is_member, granted.clone(), denied.clone());
            for resource in ["a", "b", "ab", "c"] {
                for action in ["a", "b", "ab", "c"] {
                    let asked: Permission = format!("{resource}:{action}").parse().expect("of the grammar");
                    let covered = |patterns: &[PermissionPattern]| patterns.iter().any(|one| one.covers(&asked));
                    let may = is_member && covered(&granted) && !covered(&denied);
                    prop_assert_eq!(held.decide(&asked).is_granted(), may, "{}", asked);
                }
            }
        }
    }
}
