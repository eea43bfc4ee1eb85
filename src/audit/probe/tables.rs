//! Tables: every statement that reaches a row, in every context.

use super::Try;
use super::asking::Asking;
use super::crossing::{Crossing, Deed};
use super::planted::Planted;
use crate::audit::catalog::{Catalog, Id, Relation};
use crate::audit::samples::{Context, Settings, Whose};
use crate::audit::session::{As, Rows};
use crate::audit::subject::TenantColumn;
use crate::error::Error;
use crate::quote;

/// A statement that is to touch no row of another tenant.
pub(super) struct Attack {
    pub(super) name: &'static str,
    pub(super) sql: String,
    pub(super) deed: Deed,
}

impl Attack {
    pub(super) fn writing(name: &'static str, sql: String) -> Self {
        Self {
            name,
            sql,
            deed: Deed::Written,
        }
    }
}

/// How it was before an attack.
pub(super) struct Before {
    ask: String,
    rows: Result<Rows, String>,
}

/// How an attack ended.
pub(super) enum End {
    Refused(String),
    /// It went through, and all rows are where they were.
    Nothing,
    Crossed,
}

impl Try<'_> {
    pub(super) async fn tables(&mut self, context: Context) -> Result<(), Error> {
        let (catalog, subject) = (self.catalog, self.subject);
        // Those that took no row may have some.
        for table in subject.tables(catalog).filter(|t| catalog.is_reachable(t)) {
            for user in self.users(context) {
                self.look(table, context, &user).await?;
            }
        }
        for number in 0..self.ground.planted.len() {
            let user = match (context, self.users[number].clone()) {
                (Context::Unset, _) => Settings::new(),
                (_, Some(user)) => user,
                (_, None) => self.user_of(number).await?,
            };
            self.attack(number, context, &user).await?;
            if context != Context::Unset {
                self.users[number] = Some(user);
            }
        }
        Ok(())
    }

    /// Who it may be in a context: where none is set there is no user.
    pub(super) fn users(&self, context: Context) -> Vec<Settings> {
        match context {
            Context::Unset => vec![Settings::new()],
            _ => self.subject.users(),
        }
    }

    /// Whether a relation shows rows that are not the tenant's.
    pub(super) async fn look(
        &mut self,
        relation: &Relation,
        context: Context,
        user: &Settings,
    ) -> Result<(), Error> {
        let key = self.subject.key_of(relation);
        let Some(tenants) = self.subject.tenants(relation) else {
            return Ok(());
        };
        if !self.catalog.holds(relation, "SELECT") {
            return Ok(());
        }
        let names: Vec<_> = key.iter().map(|of| of.setting).collect();
        let settings = tenants.settings(context, &names, user);
        let sql = format!(
            "SELECT 1::text FROM {} WHERE {} LIMIT 1",
            relation.display,
            is_others(&key, context, tenants.own())
        );
        for asking in self.asking.clone() {
            let answer = self.session.attempt(asking.with(&settings), &sql).await?;
            match answer {
                Ok(rows) if !rows.is_empty() => {
                    self.crossed(asking, relation, Deed::Read, "SELECT", context);
                }
                Ok(_) => {}
                Err(code) => self.note(&relation.display, &code),
            }
        }
        Ok(())
    }

    /// The first user for whom the tenant's own row is there.
    async fn user_of(&mut self, number: usize) -> Result<Settings, Error> {
        let users = self.subject.users();
        let planted = &self.ground.planted[number];
        let sql = format!(
            "SELECT 1::text FROM {} WHERE {} LIMIT 1",
            planted.table.display,
            planted.is_own()
        );
        for user in &users {
            let settings = planted.settings(Context::Own, user);
            for asking in &self.asking {
                let answer = self.session.attempt(asking.with(&settings), &sql).await?;
                if answer.is_ok_and(|rows| !rows.is_empty()) {
                    return Ok(user.clone());
                }
            }
        }
        Ok(users.into_iter().next().unwrap_or_default())
    }

    /// All statements against the planted rows of a table.
    async fn attack(
        &mut self,
        number: usize,
        context: Context,
        user: &Settings,
    ) -> Result<(), Error> {
        let planted = &self.ground.planted[number];
        let table = planted.table;
        let settings = planted.settings(context, user);
        let state = planted.state();
        let mut attacks = self.attacks(planted);
        if !self.probe.is_gentle {
            attacks.extend(self.harder_attacks(planted));
        }
        let before = self.before(&state, Some(number)).await?;
        for asking in self.asking.clone() {
            let who = asking.with(&settings);
            for attack in &attacks {
                match self.run(who, &attack.sql, &before, Some(number)).await? {
                    End::Crossed => {
                        self.crossed(asking, table, attack.deed, attack.name, context);
                    }
                    End::Refused(code) => self.note(&table.display, &code),
                    End::Nothing => {}
                }
            }
            // The same policies as SELECT and INSERT.
            if self.probe.is_gentle {
                continue;
            }
            self.copy(asking, number, context, &settings).await?;
            if context == Context::Own {
                self.disable(asking, number, &settings).await?;
            }
        }
        Ok(())
    }

    /// What touches no row but those that were planted.
    fn attacks(&self, planted: &Planted<'_>) -> Vec<Attack> {
        let (catalog, table) = (self.catalog, planted.table);
        let (name, foreign) = (&table.display, planted.is_foreign());
        let mut attacks = Vec::new();
        let holds = |privilege| catalog.holds(table, privilege);
        let draft = self.ground.draft(planted, catalog, Whose::Foreign);
        if let Some(draft) = draft.filter(|_| holds("INSERT")) {
            attacks.push(Attack::writing("INSERT", draft.insert(name)));
        }
        if let Some(changed) = planted.changed().filter(|_| holds("UPDATE")) {
            let sql = format!("UPDATE {name} SET {changed} WHERE {foreign}");
            attacks.push(Attack::writing("UPDATE", sql));
        }
        if holds("UPDATE") {
            let (moved, own) = (planted.moved(), planted.is_own());
            let sql = format!("UPDATE {name} SET {moved} WHERE {own}");
            attacks.push(Attack::writing("UPDATE that moves a row", sql));
        }
        if holds("DELETE") {
            let sql = format!("DELETE FROM {name} WHERE {foreign}");
            attacks.push(Attack::writing("DELETE", sql));
        }
        if holds("INSERT") && holds("UPDATE") {
            let upserts = self.upserts(planted).into_iter();
            attacks
                .extend(upserts.map(|sql| Attack::writing("INSERT .. ON CONFLICT DO UPDATE", sql)));
        }
        attacks
    }

    /// What may touch any row, or keep others out of the table; and what says the same again.
    fn harder_attacks(&self, planted: &Planted<'_>) -> Vec<Attack> {
        let (catalog, table) = (self.catalog, planted.table);
        let (name, foreign) = (&table.display, planted.is_foreign());
        let mut attacks = Vec::new();
        let holds = |privilege| catalog.holds(table, privilege);
        if let Some(changed) = planted.changed().filter(|_| holds("UPDATE")) {
            let sql = format!("UPDATE {name} SET {changed}");
            attacks.push(Attack::writing("UPDATE without WHERE", sql));
        }
        if holds("UPDATE") {
            let sql = format!("UPDATE {name} SET {}", planted.moved());
            let what = "UPDATE without WHERE that moves rows";
            attacks.push(Attack::writing(what, sql));
        }
        if holds("DELETE") {
            let sql = format!("DELETE FROM {name}");
            attacks.push(Attack::writing("DELETE without WHERE", sql));
        }
        if holds("TRUNCATE") {
            attacks.push(Attack {
                name: "TRUNCATE",
                sql: format!("TRUNCATE {name} CASCADE"),
                deed: Deed::Emptied,
            });
        }
        if catalog.version < 150_000 {
            return attacks;
        }
        let merge = |on: &str, what: String| {
            format!(
                "MERGE INTO {name} AS tenantry_row USING (SELECT 1) AS tenantry_one ON {on} WHEN {what}"
            )
        };
        let draft = self.ground.draft(planted, catalog, Whose::Foreign);
        if let Some(draft) = draft.filter(|_| holds("INSERT")) {
            let (columns, values) = (draft.columns(), draft.values());
            let sql = merge(
                "false",
                format!(
                    "NOT MATCHED THEN INSERT ({columns}) OVERRIDING SYSTEM VALUE VALUES ({values})"
                ),
            );
            attacks.push(Attack::writing("MERGE that inserts", sql));
        }
        if let Some(changed) = planted.changed().filter(|_| holds("UPDATE")) {
            let sql = merge(&foreign, format!("MATCHED THEN UPDATE SET {changed}"));
            attacks.push(Attack::writing("MERGE that updates", sql));
        }
        if holds("DELETE") {
            let sql = merge(&foreign, "MATCHED THEN DELETE".to_owned());
            attacks.push(Attack::writing("MERGE that deletes", sql));
        }
        attacks
    }

    /// Against each key of the other tenant's row.
    fn upserts(&self, planted: &Planted<'_>) -> Vec<String> {
        let Some(changed) = planted.changed() else {
            return Vec::new();
        };
        let own = self.ground.draft(planted, self.catalog, Whose::Own);
        let Some(own) = own else { return Vec::new() };
        keys_of(self.catalog, planted.table.oid)
            .map(|columns| {
                let names: Vec<_> = columns
                    .iter()
                    .filter_map(|number| planted.table.columns.iter().find(|c| c.number == *number))
                    .map(|column| column.display.as_str())
                    .collect();
                format!(
                    "{} ON CONFLICT ({}) DO UPDATE SET {changed}",
                    planted
                        .with_foreign(own.clone(), columns)
                        .insert(&planted.table.display),
                    names.join(", ")
                )
            })
            .collect()
    }

    /// Where the other tenant's rows are, and how many there are.
    pub(super) async fn before(
        &mut self,
        state: &str,
        number: Option<usize>,
    ) -> Result<Before, Error> {
        let settings = self.onlooker(number);
        let onlooker = As {
            settings: &settings,
            ..As::default()
        };
        let ask = format!("SELECT {state}");
        let rows = self.session.attempt(onlooker, &ask).await?;
        Ok(Before { ask, rows })
    }

    /// Tries a statement, asks what became of the other tenant's rows, and undoes it. With the number
    /// of what was planted where only its rows are asked for.
    pub(super) async fn run(
        &mut self,
        who: As<'_>,
        sql: &str,
        before: &Before,
        number: Option<usize>,
    ) -> Result<End, Error> {
        let onlooker = self.onlooker(number);
        let onlooker = As {
            settings: &onlooker,
            ..As::default()
        };
        self.session.save().await?;
        let end = match self.session.step(who, sql).await? {
            Err(code) => End::Refused(code),
            Ok(_) => match (
                &before.rows,
                self.session.step(onlooker, &before.ask).await?,
            ) {
                (Ok(before), Ok(after)) if *before != after => End::Crossed,
                _ => End::Nothing,
            },
        };
        self.session.undo().await?;
        Ok(end)
    }

    /// In which context the pool's role sees the other tenant's rows.
    fn onlooker(&self, number: Option<usize>) -> Settings {
        match number {
            Some(number) if !self.session.is_above_policies() => {
                self.ground.planted[number].other_settings(self.subject.other_user())
            }
            _ => Settings::new(),
        }
    }

    /// Out of the table, and into it.
    async fn copy(
        &mut self,
        asking: Asking<'_>,
        number: usize,
        context: Context,
        settings: &Settings,
    ) -> Result<(), Error> {
        let planted = &self.ground.planted[number];
        let table = planted.table;
        let who = asking.with(settings);
        if self.catalog.holds(table, "SELECT") {
            let (columns, line) = planted.key_line();
            let select = format!("SELECT {columns} FROM {} LIMIT 0", table.display);
            let is_readable = self.session.attempt(who, &select).await?.is_ok();
            let copy = match planted.is_partitioned() {
                true => format!("COPY (SELECT {columns} FROM {}) TO STDOUT", table.display),
                false => format!("COPY {} ({columns}) TO STDOUT", table.display),
            };
            if is_readable {
                self.session.save().await?;
                let answer = self.session.copy_out(who, &copy, &line).await?;
                self.session.undo().await?;
                if answer == Ok(true) {
                    self.crossed(asking, table, Deed::Read, "COPY TO", context);
                }
            }
        }
        let planted = &self.ground.planted[number];
        if self.catalog.holds(table, "INSERT") {
            let (columns, line) = planted.line();
            let copy = format!("COPY {} ({columns}) FROM STDIN", table.display);
            let make_room = format!("DELETE FROM {} WHERE {}", table.display, planted.place());
            let onlooker = self.onlooker(Some(number));
            let onlooker = As {
                settings: &onlooker,
                ..As::default()
            };
            self.session.save().await?;
            let is_taken = self.session.step(onlooker, &make_room).await?.is_ok()
                && self.session.copy_in(who, &copy, &line).await? == Ok(1);
            self.session.undo().await?;
            if is_taken {
                self.crossed(asking, table, Deed::Written, "COPY FROM", context);
            }
        }
        Ok(())
    }

    /// Who owns a table can take its policies away.
    async fn disable(
        &mut self,
        asking: Asking<'_>,
        number: usize,
        settings: &Settings,
    ) -> Result<(), Error> {
        let planted = &self.ground.planted[number];
        let table = planted.table;
        if !self.catalog.reach.contains(table.owner) || !table.row_security {
            return Ok(());
        }
        let disable = format!("ALTER TABLE {} DISABLE ROW LEVEL SECURITY", table.display);
        let select = format!(
            "SELECT 1::text FROM {} WHERE {} LIMIT 1",
            table.display,
            planted.is_foreign()
        );
        let who = asking.with(settings);
        self.session.save().await?;
        let is_seen = match self.session.step(who, &disable).await? {
            Ok(_) => self.session.step(who, &select).await?,
            Err(code) => Err(code),
        };
        self.session.undo().await?;
        if is_seen.is_ok_and(|rows| !rows.is_empty()) {
            let name = "ALTER TABLE .. DISABLE ROW LEVEL SECURITY and SELECT";
            self.crossed(asking, table, Deed::Read, name, Context::Own);
        }
        Ok(())
    }

    pub(super) fn crossed(
        &mut self,
        asking: Asking<'_>,
        relation: &Relation,
        deed: Deed,
        name: &str,
        context: Context,
    ) {
        let crossing = Crossing {
            object: relation.display.clone(),
            relation: Some(relation.oid),
            deed,
            what: name.to_owned(),
            context,
        };
        self.crossings.add(asking, crossing);
    }
}

/// That a row is not that of the tenant in the context. Rows of nobody may be everybody's.
fn is_others(key: &[TenantColumn<'_>], context: Context, own: &[String]) -> String {
    let columns = key.iter().zip(own);
    match context {
        Context::Own => {
            let differs = columns
                .map(|(of, own)| format!("{}::text <> {}", of.column.display, quote::literal(own)));
            differs.collect::<Vec<_>>().join(" OR ")
        }
        _ => {
            let is_somebodys = columns.map(|(of, _)| format!("{} IS NOT NULL", of.column.display));
            is_somebodys.collect::<Vec<_>>().join(" AND ")
        }
    }
}

/// The columns of each key that rows can be in conflict by.
pub(super) fn keys_of(catalog: &Catalog, table: Id) -> impl Iterator<Item = &[i16]> {
    let uniques = catalog.uniques.iter();
    uniques
        .filter(move |unique| {
            unique.relation == table
                && unique.kind != "x"
                && !unique.partial
                && !unique.columns.contains(&0)
        })
        .map(|unique| unique.columns.as_slice())
}
