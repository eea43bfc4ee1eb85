//! What a role can become.

use std::collections::{BTreeMap, VecDeque};

use super::Catalog;
use super::id::Id;
use super::roles::{Database, Membership, Role};
use crate::error::{Error, ErrorKind};

/// The roles that tenants are served as, and every role that these can become or have the
/// privileges of, each with the shortest way to it.
#[derive(Clone, Debug, Default)]
pub(in crate::audit) struct Reach {
    ways: BTreeMap<Id, Way>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Way {
    /// Who serves tenants.
    from: Id,
    /// The first membership on the way; `None` for who serves tenants itself.
    entry: Option<Id>,
}

impl Reach {
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`] if there is no such role.
    pub(in crate::audit) fn of(
        names: &[String],
        roles: &BTreeMap<Id, Role>,
        memberships: &[Membership],
        database: &Database,
    ) -> Result<Self, Error> {
        let mut reach = Self::default();
        let mut open = VecDeque::new();
        for name in names {
            let role = roles.values().find(|role| role.name == *name);
            let role = role.ok_or_else(|| {
                Error::new(
                    ErrorKind::InvalidOption,
                    format!("there is no role {name:?}: name the one that the service logs in as"),
                )
            })?;
            let way = Way {
                from: role.oid,
                entry: None,
            };
            if reach.ways.insert(role.oid, way).is_none() {
                open.push_back(role.oid);
            }
        }
        let mut of_member: BTreeMap<Id, Vec<Id>> = BTreeMap::new();
        for membership in memberships.iter().filter(|membership| membership.usable) {
            let of = of_member.entry(membership.member).or_default();
            of.push(membership.role);
        }
        // The owner of a database is a member of that role without being listed as one.
        if let Some(owners) = roles.values().find(|r| r.name == "pg_database_owner") {
            of_member
                .entry(database.owner)
                .or_default()
                .push(owners.oid);
        }
        while let Some(member) = open.pop_front() {
            let way = reach.ways[&member];
            for role in of_member.get(&member).into_iter().flatten() {
                reach.ways.entry(*role).or_insert_with(|| {
                    open.push_back(*role);
                    Way {
                        from: way.from,
                        entry: way.entry.or(Some(*role)),
                    }
                });
            }
        }
        Ok(reach)
    }

    pub(in crate::audit) fn contains(&self, role: Id) -> bool {
        self.ways.contains_key(&role)
    }

    /// Every role, who serves tenants first.
    pub(in crate::audit) fn roles(&self) -> impl Iterator<Item = Id> + Clone {
        let is_first = |way: &Way| way.entry.is_none();
        let first = self.ways.iter().filter(move |(_, way)| is_first(way));
        let further = self.ways.iter().filter(move |(_, way)| !is_first(way));
        first.chain(further).map(|(role, _)| *role)
    }

    /// Those who serve tenants.
    pub(in crate::audit) fn own(&self) -> impl Iterator<Item = Id> {
        self.ways
            .iter()
            .filter(|(_, way)| way.entry.is_none())
            .map(|(role, _)| *role)
    }

    /// Who serves tenants and gets to `role`, and the membership that has to go for it to end.
    pub(in crate::audit) fn way(&self, role: Id) -> Option<(Id, Option<Id>)> {
        self.ways.get(&role).map(|way| (way.from, way.entry))
    }

    pub(in crate::audit) fn has_named(&self, catalog: &Catalog, name: &str) -> bool {
        self.ways.keys().any(|role| {
            catalog
                .roles
                .get(role)
                .is_some_and(|role| role.name == name)
        })
    }
}
