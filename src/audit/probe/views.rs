//! Views, materialized views and foreign tables.

use super::Try;
use super::crossing::Deed;
use super::planted::Planted;
use super::seed::{CANARY, FOREIGN_CANARY};
use super::tables::{Attack, End};
use crate::audit::catalog::{Kind, Relation};
use crate::audit::samples::{Context, Settings, Whose};
use crate::audit::session::As;
use crate::audit::unseen::Unseen;
use crate::error::Error;
use crate::quote;

impl<'a> Try<'a> {
    pub(super) async fn views(&mut self, context: Context) -> Result<(), Error> {
        for view in self.relations() {
            for user in self.users(context) {
                self.look(view, context, &user).await?;
                self.look_for_canaries(view, context, &user).await?;
                self.write_through(view, context, &user).await?;
            }
        }
        Ok(())
    }

    /// So that materialized views show what was planted.
    pub(super) async fn refresh(&mut self) -> Result<(), Error> {
        let views = self.relations();
        for view in views.filter(|view| view.kind == Kind::MaterializedView) {
            let sql = format!("REFRESH MATERIALIZED VIEW {}", view.display);
            let is_refreshed =
                !self.probe.is_gentle && self.session.keep(As::default(), &sql).await?.is_ok();
            if !is_refreshed {
                let why = "it was not refreshed, and shows what it was made of";
                self.unseen.push(Unseen::new(&view.display, why));
            }
        }
        Ok(())
    }

    pub(super) fn tell_unwritten(&mut self) {
        let catalog = self.catalog;
        for view in self.relations().filter(|view| view.kind == Kind::View) {
            if catalog.is_writable(view) {
                let why = "it was not written through: only a pool above policies sees what became of \
                           rows behind it";
                self.unseen.push(Unseen::new(&view.display, why));
            }
        }
    }

    /// Texts that were made up, whatever column they have come to.
    async fn look_for_canaries(
        &mut self,
        view: &Relation,
        context: Context,
        user: &Settings,
    ) -> Result<(), Error> {
        if !self.catalog.holds(view, "SELECT") {
            return Ok(());
        }
        let canary = match context {
            Context::Own => FOREIGN_CANARY,
            _ => CANARY,
        };
        let sql = format!(
            "SELECT 1::text FROM {} AS tenantry_row \
             WHERE pg_catalog.to_jsonb(tenantry_row)::text LIKE {} LIMIT 1",
            view.display,
            quote::literal(&format!("%{canary}%"))
        );
        let settings = self.context(context, user);
        for asking in self.asking.clone() {
            let answer = self.session.attempt(asking.with(&settings), &sql).await?;
            match answer {
                Ok(rows) if !rows.is_empty() => {
                    self.crossed(asking, view, Deed::Read, "SELECT", context);
                }
                Ok(_) => {}
                Err(code) => self.note(&view.display, &code),
            }
        }
        Ok(())
    }

    /// Through a view that takes rows for a table.
    async fn write_through(
        &mut self,
        view: &Relation,
        context: Context,
        user: &Settings,
    ) -> Result<(), Error> {
        if view.kind != Kind::View {
            return Ok(());
        }
        let attacks = self.through(view);
        let settings = self.context(context, user);
        let state = self.ground.state();
        if attacks.is_empty() || state.is_empty() || !self.session.is_above_policies() {
            return Ok(());
        }
        let before = self.before(&state, None).await?;
        for asking in self.asking.clone() {
            for attack in &attacks {
                let who = asking.with(&settings);
                match self.run(who, &attack.sql, &before, None).await? {
                    End::Crossed => {
                        self.crossed(asking, view, attack.deed, attack.name, context);
                    }
                    End::Refused(code) => self.note(&view.display, &code),
                    End::Nothing => {}
                }
            }
        }
        Ok(())
    }

    fn through(&self, view: &Relation) -> Vec<Attack> {
        let mut attacks = Vec::new();
        let behind = self.behind(view);
        let (name, catalog) = (&view.display, self.catalog);
        let holds = |privilege| catalog.holds(view, privilege);
        let columns: Vec<_> = view.columns.iter().map(|c| c.display.as_str()).collect();
        let shows_key = |planted: &Planted<'_>| {
            let mut key = planted.key.iter();
            key.all(|of| columns.contains(&of.column.display.as_str()))
        };
        for planted in behind.iter().filter(|planted| shows_key(planted)) {
            let (foreign, moved) = (planted.is_foreign(), planted.moved());
            if holds("UPDATE") {
                let sql = format!("UPDATE {name} SET {moved} WHERE {foreign}");
                attacks.push(Attack::writing("UPDATE", sql));
            }
            if holds("DELETE") {
                let sql = format!("DELETE FROM {name} WHERE {foreign}");
                attacks.push(Attack::writing("DELETE", sql));
            }
            let draft = self.ground.draft(planted, catalog, Whose::Foreign);
            if let Some(draft) = draft.filter(|_| holds("INSERT")) {
                let sql = draft.only(&columns).insert(name);
                attacks.push(Attack::writing("INSERT", sql));
            }
        }
        if !behind.is_empty() && holds("DELETE") && !self.probe.is_gentle {
            let sql = format!("DELETE FROM {name}");
            attacks.push(Attack::writing("DELETE without WHERE", sql));
        }
        attacks
    }

    fn behind(&self, view: &Relation) -> Vec<&Planted<'_>> {
        let read = self.catalog.views.get(&view.oid);
        let planted = self.ground.planted.iter();
        planted
            .filter(|planted| read.is_some_and(|read| read.contains(&planted.table.oid)))
            .collect()
    }

    /// The context of the tenants that were made up, whatever the types of their keys.
    pub(super) fn context(&self, context: Context, user: &Settings) -> Settings {
        let mut settings = Settings::new();
        for planted in &self.ground.planted {
            for (name, value) in planted.settings(context, user) {
                if !settings.iter().any(|(other, _)| *other == name) {
                    settings.push((name, value));
                }
            }
        }
        settings
    }

    /// What shows rows, has no policies itself, and can be reached.
    fn relations(&self) -> impl Iterator<Item = &'a Relation> + use<'a> {
        let (catalog, subject) = (self.catalog, self.subject);
        catalog.own_relations().filter(move |relation| {
            relation.kind.has_rows()
                && !relation.kind.is_table()
                && !subject.is_global(relation)
                && catalog.is_reachable(relation)
        })
    }
}
