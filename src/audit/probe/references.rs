//! Foreign keys and unique keys, which are checked without policies.

use super::Try;
use super::crossing::Deed;
use super::tables::keys_of;
use crate::audit::samples::{Context, Whose};
use crate::audit::session::{As, Rows};
use crate::audit::unseen::Unseen;
use crate::error::Error;

/// `unique_violation`
const TAKEN: &str = "23505";

impl Try<'_> {
    pub(super) async fn references(&mut self) -> Result<(), Error> {
        for number in 0..self.ground.planted.len() {
            self.refer(number).await?;
            self.conflict(number).await?;
        }
        Ok(())
    }

    /// Attaches a row of the one tenant to one of the other, with triggers and foreign keys in force.
    async fn refer(&mut self, number: usize) -> Result<(), Error> {
        let (catalog, subject) = (self.catalog, self.subject);
        let child = &self.ground.planted[number];
        let table = child.table;
        let Some(own) = self.ground.draft(child, catalog, Whose::Own) else {
            return Ok(());
        };
        let mut attempts = Vec::new();
        for key in catalog
            .foreign_keys
            .iter()
            .filter(|key| key.relation == table.oid)
        {
            let mut parents = self.ground.planted.iter();
            let Some(parent) = parents.find(|p| p.table.oid == key.referenced) else {
                continue;
            };
            let pairs = key.columns.iter().zip(&key.referenced_columns);
            // The tenant stays its own.
            let pairs =
                pairs.filter(|(from, _)| !child.key.iter().any(|of| of.column.number == **from));
            let mut draft = own.clone();
            let mut changes = Vec::new();
            for (from, to) in pairs {
                let Some(value) = parent.foreign_value(*to) else {
                    continue;
                };
                draft = child.refer(draft, *from, value);
                if let Some(change) = child.changed_to(*from, value) {
                    changes.push(change);
                }
            }
            if !changes.is_empty() {
                let update = format!(
                    "UPDATE {} SET {} WHERE {} RETURNING 1::text",
                    table.display,
                    changes.join(", "),
                    child.is_own()
                );
                attempts.push((&key.display, draft.insert(&table.display), update));
            }
        }
        if attempts.is_empty() {
            return Ok(());
        }
        let control = own.insert(&table.display);
        let user = subject.users().into_iter().next().unwrap_or_default();
        let settings = child.settings(Context::Own, &user);
        let mut crossed = Vec::new();
        for asking in self.asking.clone() {
            let who = As {
                with_triggers: true,
                ..asking.with(&settings)
            };
            let inserts = catalog.holds(table, "INSERT");
            let updates = catalog.holds(table, "UPDATE");
            let is_possible = !inserts || self.in_force(who, &control).await?.is_ok();
            for (name, insert, update) in &attempts {
                if !is_possible {
                    let why = format!(
                        "its foreign key {name} was not tried: with triggers and foreign keys in force it \
                         takes no row that is made up"
                    );
                    self.unseen.push(Unseen::new(&table.display, why));
                    continue;
                }
                if inserts && self.in_force(who, insert).await?.is_ok() {
                    crossed.push((asking, format!("INSERT by its foreign key {name}")));
                }
                let rows = match updates {
                    true => self.in_force(who, update).await?,
                    false => Ok(Rows::new()),
                };
                if rows.is_ok_and(|rows| !rows.is_empty()) {
                    crossed.push((asking, format!("UPDATE by its foreign key {name}")));
                }
            }
        }
        for (asking, name) in crossed {
            self.crossed(asking, table, Deed::ReferredTo, &name, Context::Own);
        }
        Ok(())
    }

    /// Deferred ones, too.
    async fn in_force(&mut self, who: As<'_>, sql: &str) -> Result<Result<Rows, String>, Error> {
        let sql = format!("{sql}; SET CONSTRAINTS ALL IMMEDIATE");
        self.session.attempt(who, &sql).await
    }

    /// Takes what the other tenant has taken in a key that does not hold the tenant.
    async fn conflict(&mut self, number: usize) -> Result<(), Error> {
        let catalog = self.catalog;
        let planted = &self.ground.planted[number];
        let table = planted.table;
        let own = self.ground.draft(planted, catalog, Whose::Own);
        let Some(own) = own.filter(|_| catalog.holds(table, "INSERT")) else {
            return Ok(());
        };
        let user = self.subject.users().into_iter().next().unwrap_or_default();
        let settings = planted.settings(Context::Own, &user);
        let control = own.insert(&table.display);
        let attempts: Vec<_> = keys_of(catalog, table.oid)
            .filter(|columns| {
                let mut key = planted.key.iter();
                !key.all(|of| columns.contains(&of.column.number))
            })
            // Nobody guesses a uuid, and a number that is counted up was not chosen.
            .filter(|columns| {
                let mut of = table.columns.iter();
                of.any(|column| {
                    columns.contains(&column.number)
                        && column.base_type != "uuid"
                        && !column.is_counted
                })
            })
            .map(|columns| {
                planted
                    .with_foreign(own.clone(), columns)
                    .insert(&table.display)
            })
            .collect();
        for asking in self.asking.clone() {
            let who = asking.with(&settings);
            if attempts.is_empty() || self.session.attempt(who, &control).await?.is_err() {
                continue;
            }
            for attempt in &attempts {
                let answer = self.session.attempt(who, attempt).await?;
                if answer.is_err_and(|code| code == TAKEN) {
                    self.crossed(asking, table, Deed::LearnedOf, "INSERT", Context::Own);
                }
            }
        }
        Ok(())
    }
}
