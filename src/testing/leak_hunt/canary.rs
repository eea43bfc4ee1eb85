//! The text that says whose a row is, and which turn wrote it.

use std::fmt;

use crate::tenant::TenantId;

/// `tenant/seed.task.number`. No tenant id holds a slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Canary<'t> {
    pub(super) tenant: &'t str,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The row that is there from the beginning to the end.
    Standing,
    Of(Place),
    /// Never committed, whatever happens.
    Doomed(Place),
    /// Somebody's, and more cannot be told.
    Unknown,
}

/// The turn of a hunt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) task: u32,
    pub(super) number: u64,
}

impl<'t> Canary<'t> {
    /// `None` if it names nobody.
    pub(super) fn parse(text: &'t str) -> Option<Self> {
        let (tenant, turn) = text.split_once('/')?;
        let kind = match turn {
            STANDING => Kind::Standing,
            _ => place(turn).unwrap_or(Kind::Unknown),
        };
        (!tenant.is_empty()).then_some(Self { tenant, kind })
    }
}

fn place(turn: &str) -> Option<Kind> {
    let (turn, is_doomed) = match turn.strip_suffix(DOOMED) {
        Some(turn) => (turn, true),
        None => (turn, false),
    };
    let mut parts = turn.split('.').skip(1);
    let (task, number) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let place = Place { task, number };
    Some(match is_doomed {
        true => Kind::Doomed(place),
        false => Kind::Of(place),
    })
}

pub(super) fn standing(tenant: &TenantId) -> String {
    format!("{tenant}/{STANDING}")
}

pub(super) fn of(tenant: &TenantId, seed: u64, place: Place) -> String {
    format!("{tenant}/{seed:x}.{place}")
}

pub(super) fn doomed(tenant: &TenantId, seed: u64, place: Place) -> String {
    format!("{tenant}/{seed:x}.{place}{DOOMED}")
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.task, self.number)
    }
}

pub(super) const STANDING: &str = "standing";
const DOOMED: char = '!';

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let tenant: TenantId = "org_2b.X".parse().expect("a tenant id");
        let place = Place {
            task: 7,
            number: 4_000_000_000_000,
        };
        for (text, kind) in [
            (standing(&tenant), Kind::Standing),
            (of(&tenant, u64::MAX, place), Kind::Of(place)),
            (doomed(&tenant, 0, place), Kind::Doomed(place)),
            ("org_2b.X/a user".to_owned(), Kind::Unknown),
            ("org_2b.X/".to_owned(), Kind::Unknown),
        ] {
            let canary = Canary::parse(&text).expect("somebody's");
            assert_eq!((canary.tenant, canary.kind), ("org_2b.X", kind), "{text}");
        }
        for text in ["", "/", "/1.2.3", "org_2b.X"] {
            assert_eq!(Canary::parse(text), None, "{text}");
        }
    }
}
