//! The proof, from the catalog to the last try.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgPool;
use sqlx::postgres::types::Oid;

use super::attempt::{self, Window};
use super::catalog::{self, Column, Policy, Relation, Seen};
use super::evaluation::{About, Context, Target};
use super::finding::{IsolationFinding, IsolationRule};
use super::policy::Use;
use super::report::IsolationReport;
use super::samples::{self, Tenants};
use super::session::{As, Session};
use super::subject::Isolation;
use super::table;
use crate::error::Error;
use crate::quote;
use crate::sql::{SEALED_LAYOUT, own};

pub(super) async fn prove(pool: &PgPool, isolation: &Isolation) -> Result<IsolationReport, Error> {
    if let Some(contexts) = &isolation.contexts {
        samples::check(contexts)?;
    }
    let mut session = Session::begin(pool).await?;
    for role in &isolation.roles {
        session.check_role(role).await?;
    }
    let mut proof = Proof {
        isolation,
        lists: Lists::default(),
        report: IsolationReport::default(),
    };
    proof.roles(&mut session).await?;
    match catalog::database_of(session.catalog()).await? {
        Some(tenant) => proof.database_of(&mut session, &tenant).await?,
        None => proof.tables(&mut session).await?,
    }
    session.end().await;
    Ok(proof.report)
}

struct Proof<'a> {
    isolation: &'a Isolation,
    lists: Lists,
    report: IsolationReport,
}

/// What is named by the lists.
#[derive(Default)]
struct Lists {
    global: BTreeSet<u32>,
    reviewed: BTreeSet<u32>,
    columns: BTreeMap<u32, String>,
}

impl Proof<'_> {
    fn complain(
        &mut self,
        rule: IsolationRule,
        object: &str,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.report
            .add(IsolationFinding::new(rule, object, problem, remedy));
    }

    async fn roles(&mut self, session: &mut Session) -> Result<(), Error> {
        for (rule, object, problem, remedy) in
            catalog::roles(session.catalog(), &self.isolation.roles).await?
        {
            let rule = match &*rule {
                "bypasses" => IsolationRule::RoleBypasses,
                "owns" => IsolationRule::RoleOwns,
                _ => IsolationRule::Privilege,
            };
            self.complain(rule, &object, problem, remedy);
        }
        Ok(())
    }

    /// The database takes its own tenant and no other.
    async fn database_of(&mut self, session: &mut Session, tenant: &str) -> Result<(), Error> {
        let other = match tenant {
            "proof-a" => "proof-b",
            _ => "proof-a",
        };
        for (whose, is_own) in [(tenant, true), (other, false)] {
            // The context of a statement, as it travels. One that is signed wrongly is refused for
            // another reason, behind the question whose it is.
            let layout = match session.is_sealed {
                true => format!(
                    "'{SEALED_LAYOUT}', {}, '', '', '', ''",
                    quote::literal(whose)
                ),
                false => format!("'1', {}, ''", quote::literal(whose)),
            };
            let sql = format!("SELECT ARRAY[{layout}]::tenantry.scope IS NULL");
            let who = As {
                role: self.isolation.roles.first().map(String::as_str),
                settings: &[],
            };
            let is_taken = match session.attempt(who, &sql, false).await? {
                Ok(_) => true,
                Err(code) => session.is_sealed && code == "28000",
            };
            if is_taken != is_own {
                let problem = match is_own {
                    true => "belongs to one tenant and refuses its statements",
                    false => "belongs to one tenant and takes statements of others",
                };
                let remedy = "run `Installation::install` with its tenant again";
                self.complain(
                    IsolationRule::AnotherTenant,
                    "the database",
                    problem,
                    remedy,
                );
            }
        }
        Ok(())
    }

    async fn tables(&mut self, session: &mut Session) -> Result<(), Error> {
        self.read_lists(session).await?;
        let roles = &self.isolation.roles;
        let reachable = catalog::relations(session.catalog(), roles, &[]).await?;
        let views: Vec<Oid> = reachable
            .iter()
            .filter(|relation| relation.kind == "v" && !self.is_listed(relation))
            .map(|relation| relation.oid)
            .collect();
        let column = &self.isolation.column;
        let seen = catalog::seen_through_views(session.catalog(), &views, column).await?;
        let behind: Vec<Oid> = seen.iter().map(|seen| seen.relation).collect();
        let relations = catalog::relations(session.catalog(), roles, &behind).await?;

        self.views(&relations, &seen);
        let mut targets = self.targets(session, &relations).await?;
        self.ask(session, &mut targets, &seen).await?;
        for target in &mut targets {
            target.fill(session, self.isolation).await?;
        }
        for context in Context::ALL {
            for target in &mut targets {
                target
                    .evaluate(session, context, self.isolation, &mut self.report)
                    .await?;
            }
        }
        for target in &targets {
            target.complain_of_silence(&mut self.report);
        }
        self.attempts(session, &relations, &targets).await?;
        self.functions(session, &relations).await?;
        if targets.is_empty() && !relations.iter().any(|r| self.report_names(&r.name)) {
            self.complain(
                IsolationRule::NothingToProve,
                "the database",
                "has no table with the tenant column that the application role can reach",
                "run the migrations first, or name the column with `Isolation::tenant_column`",
            );
        }
        Ok(())
    }

    fn report_names(&self, object: &str) -> bool {
        self.report
            .findings()
            .any(|finding| finding.object() == object)
    }

    async fn read_lists(&mut self, session: &mut Session) -> Result<(), Error> {
        let isolation = self.isolation;
        let named: Vec<_> = isolation
            .columns
            .iter()
            .map(|(table, _)| table.clone())
            .collect();
        let lists = [&isolation.global, &isolation.reviewed, &named];
        for (number, names) in lists.into_iter().enumerate() {
            // Found as the pool finds names, not as the catalog is asked.
            for name in names {
                let Some(oid) = session.resolve(name).await? else {
                    self.complain(
                        IsolationRule::NotThere,
                        name,
                        "is on a list and not there",
                        "take it off, or mend its name",
                    );
                    continue;
                };
                match number {
                    0 => _ = self.lists.global.insert(oid.0),
                    1 => _ = self.lists.reviewed.insert(oid.0),
                    _ => {
                        let column = isolation.columns.iter().find(|(table, _)| table == name);
                        if let Some((_, column)) = column {
                            self.lists.columns.insert(oid.0, column.clone());
                        }
                    }
                }
            }
        }
        let reference = catalog::reference_tables(session.catalog()).await?;
        self.lists.global.extend(reference.iter().map(|oid| oid.0));
        Ok(())
    }

    fn is_listed(&self, relation: &Relation) -> bool {
        self.lists.reviewed.contains(&relation.oid.0) || self.is_global(relation)
    }

    fn is_global(&self, relation: &Relation) -> bool {
        self.lists.global.contains(&relation.oid.0)
            || relation.schema == own::SCHEMA && own::GLOBAL.contains(&&*relation.table)
    }

    /// The name that the tenant column of a relation should have.
    fn column_of(&self, relation: &Relation) -> &str {
        if is_own(relation) {
            return own::COLUMN;
        }
        let named = self.lists.columns.get(&relation.oid.0);
        named.unwrap_or(&self.isolation.column)
    }

    /// Judges relations by the catalog, and picks the tables whose policies are to be evaluated.
    async fn targets(
        &mut self,
        session: &mut Session,
        relations: &[Relation],
    ) -> Result<Vec<Target>, Error> {
        let isolation = self.isolation;
        let roles = &isolation.roles;
        let oids: Vec<Oid> = relations.iter().map(|relation| relation.oid).collect();
        let columns = catalog::columns(session.catalog(), &oids).await?;
        let mut targets = Vec::new();
        for relation in relations {
            let is_reached = !relation.privileges.is_empty();
            if self.lists.reviewed.contains(&relation.oid.0) {
                continue;
            }
            if self.is_global(relation) {
                self.report.extend(table::global(relation, roles));
                continue;
            }
            let columns: Vec<Column> = columns
                .iter()
                .filter(|column| column.relation == relation.oid)
                .cloned()
                .collect();
            let name = self.column_of(relation);
            let column = columns.iter().find(|column| column.name == name).cloned();
            match &*relation.kind {
                "r" | "p" => {}
                "v" => continue,
                _ if is_reached => {
                    self.report
                        .extend([table::without_policies(relation, roles)]);
                    continue;
                }
                _ => continue,
            }
            if column.is_none() && !relation.row_security {
                if is_reached {
                    self.report.extend([table::unknown(relation, roles)]);
                }
                continue;
            }
            self.report.judged(&relation.name);
            self.report
                .extend(table::of_tenants(relation, is_own(relation), roles));
            if !relation.row_security {
                continue;
            }
            let given = self.isolation.contexts.as_ref();
            let tenants = column
                .as_ref()
                .and_then(|column| Tenants::of(column, given));
            let (Some(column), Some(tenants)) = (column, tenants) else {
                self.complain(
                    IsolationRule::NotJudged,
                    &relation.name,
                    "has policies, and no tenant column that rows could be made up for",
                    "name it with `Isolation::tenant_column_of`, or look at its policies yourself \
                     and list it as reviewed",
                );
                continue;
            };
            let checks = catalog::checks(session.catalog(), relation.oid, &column.name).await?;
            targets.push(Target::new(
                relation.clone(),
                column,
                columns,
                tenants,
                checks,
            ));
        }
        Ok(targets)
    }

    /// What views show with the rights of their owners.
    fn views(&mut self, relations: &[Relation], seen: &[Seen]) {
        for seen in seen {
            let Some(view) = relations.iter().find(|relation| relation.oid == seen.view) else {
                continue;
            };
            let behind = relations
                .iter()
                .find(|relation| relation.oid == seen.relation);
            if behind.is_none_or(|behind| self.is_listed(behind)) {
                continue;
            }
            let is_tenants = seen.has_column
                || seen.row_security
                || self.lists.columns.contains_key(&seen.relation.0);
            let problem = match (&*seen.kind, is_tenants) {
                ("m" | "f", _) => format!("shows {}, which has no policies", seen.name),
                (_, false) => {
                    format!(
                        "shows {}, which is no table of tenants and on no list",
                        seen.name
                    )
                }
                _ if !seen.row_security => {
                    format!("shows {}, which has no row-level security", seen.name)
                }
                _ if seen.bypasses => format!(
                    "shows {} with the rights of {}, who is above its policies",
                    seen.name,
                    quote::identifier(&seen.owner)
                ),
                _ => continue,
            };
            let remedy = format!(
                "ALTER VIEW {} SET (security_invoker = true); from PostgreSQL 15 on; or {} or look \
                 at it yourself and list it as reviewed",
                view.name,
                table::revoke("ALL", view, &self.isolation.roles)
            );
            let name = view.name.clone();
            self.complain(IsolationRule::GoesRound, &name, problem, remedy);
        }
    }

    /// Puts the policies of each target together, for each role that meets them.
    async fn ask(
        &mut self,
        session: &mut Session,
        targets: &mut [Target],
        seen: &[Seen],
    ) -> Result<(), Error> {
        let isolation = self.isolation;
        let roles = catalog::reachable_roles(session.catalog(), &isolation.roles).await?;
        let oids: Vec<Oid> = targets.iter().map(|target| target.relation.oid).collect();
        let owners: Vec<String> = seen
            .iter()
            .filter(|seen| !seen.bypasses)
            .map(|seen| seen.owner.clone())
            .collect();
        let policies =
            catalog::policies(session.catalog(), &isolation.roles, &oids, &owners).await?;
        for target in targets {
            let oid = target.relation.oid;
            let of_role = |role: &str| {
                let role = role.to_owned();
                let policies = policies.iter();
                policies.filter(move |policy| policy.relation == oid && policy.role == role)
            };
            for role in &roles {
                for of in Use::ALL {
                    if !target
                        .relation
                        .privileges
                        .iter()
                        .any(|p| p == of.privilege())
                    {
                        continue;
                    }
                    let asked = target.ask(role, of, About::Policies, of_role(role));
                    // Where an UPDATE finds no row it makes none.
                    if !asked && of != Use::UpdateTo && isolation.roles.contains(role) {
                        self.no_policy(&target.relation, role, of);
                    }
                }
                for name in [TENANT, BACKSTOP] {
                    for of in [Use::Select, Use::Insert] {
                        target.ask(role, of, About::One(name), of_role(role));
                    }
                }
            }
            // Evaluated as the application role, for that is who asks.
            let asks = isolation.roles.first().map_or("", String::as_str);
            for seen in seen
                .iter()
                .filter(|seen| seen.relation == oid && !seen.bypasses)
            {
                let of_owner = of_role(&seen.owner);
                target.ask(asks, Use::Select, About::Policies, of_owner);
            }
            let of_table = policies.iter().filter(|policy| policy.relation == oid);
            self.pair(&target.relation, of_table);
        }
        Ok(())
    }

    fn no_policy(&mut self, relation: &Relation, role: &str, of: Use) {
        let (name, privilege) = (&relation.name, of.privilege());
        self.complain(
            IsolationRule::NoPolicy,
            name,
            format!(
                "grants {privilege} to {} and has no policy that lets it use that",
                quote::identifier(role)
            ),
            format!(
                "REVOKE {privilege} ON {name} FROM {}; or mend its policies, as by \
                 `TenantTable::apply`",
                quote::identifier(role)
            ),
        );
    }

    /// The two policies of a `TenantTable` come and go together.
    fn pair<'p>(&mut self, relation: &Relation, policies: impl Iterator<Item = &'p Policy>) {
        let (mut tenant, mut backstop) = (false, false);
        for policy in policies {
            tenant |= policy.name == TENANT;
            backstop |= policy.name == BACKSTOP && !policy.permissive && policy.command == "*";
        }
        if tenant != backstop && !is_own(relation) {
            let missing = if tenant { BACKSTOP } else { TENANT };
            self.complain(
                IsolationRule::PolicyChanged,
                &relation.name,
                format!("lacks the policy {missing}, or has it in another form"),
                "run `TenantTable::apply` on it again",
            );
        }
    }

    async fn attempts(
        &mut self,
        session: &mut Session,
        relations: &[Relation],
        targets: &[Target],
    ) -> Result<(), Error> {
        if session.is_superuser {
            // Neither triggers nor foreign keys: it is about policies.
            session
                .run("SET LOCAL session_replication_role = replica")
                .await?;
        }
        let isolation = self.isolation;
        let mut planted = Vec::new();
        for target in targets {
            if attempt::plant(session, target, isolation).await? {
                self.report.planted += 1;
                planted.push(target);
            }
        }
        for target in planted {
            attempt::write(session, target, isolation, &mut self.report).await?;
        }
        let Some(first) = targets.first() else {
            return Ok(());
        };
        for relation in relations {
            if self.is_listed(relation) || table::held(relation, &["SELECT"]).is_empty() {
                continue;
            }
            let of_it = targets
                .iter()
                .find(|target| target.relation.oid == relation.oid);
            // A view may have the column under the same name, and of the same type.
            let column = self.column_of(relation).to_owned();
            let window = Window {
                relation,
                column: &column,
                tenants: of_it.map_or(&first.tenants, |target| &target.tenants),
            };
            if !self
                .report
                .has(IsolationRule::RowSecurityOff, &relation.name)
            {
                attempt::look(session, &window, isolation, &mut self.report).await?;
            }
        }
        Ok(())
    }

    async fn functions(
        &mut self,
        session: &mut Session,
        relations: &[Relation],
    ) -> Result<(), Error> {
        let unforced: Vec<Oid> = relations
            .iter()
            .filter(|relation| is_own(relation))
            .map(|relation| relation.oid)
            .collect();
        let roles = &self.isolation.roles;
        for (oid, object, problem, remedy) in
            catalog::functions(session.catalog(), roles, &unforced).await?
        {
            let is_own = own::FUNCTIONS
                .iter()
                .any(|name| object.starts_with(&format!("tenantry.{name}(")));
            if !is_own && !self.lists.reviewed.contains(&oid.0) {
                self.complain(IsolationRule::FunctionGoesRound, &object, problem, remedy);
            }
        }
        Ok(())
    }
}

/// As [`TenantTable`](crate::sql::TenantTable) names them.
const TENANT: &str = "tenantry_tenant";
const BACKSTOP: &str = "tenantry_backstop";

fn is_own(relation: &Relation) -> bool {
    relation.schema == own::SCHEMA && own::TABLES.contains(&&*relation.table)
}
