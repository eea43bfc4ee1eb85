//! Ways around the isolation that a database has, with the SQL that mends them.
//!
//! Row-level security is as good as the schema, the roles and the grants around it: a view that
//! runs with the rights of a superuser, a table that was granted before its policies came, a role
//! that can become another. The auditor reads the catalog of a live database and says what is
//! there.
//!
//! ```no_run
//! use tenantry::audit::{AuditConfig, Auditor, Severity};
//!
//! # async fn example(pool: sqlx::PgPool) -> Result<(), tenantry::Error> {
//! let config = AuditConfig::new("app")
//!     .tenant_column("tenant_id", "app.tenant_id")
//!     .global_table("app.countries");
//! let report = Auditor::new(config).run(&pool).await?;
//! println!("{report}");
//! assert!(!report.has(Severity::Low));
//! # Ok(())
//! # }
//! ```
//!
//! It is a closed world: what the application role can reach is known to keep tenants apart, or is
//! in the configuration as meant for all, or is a finding.
//!
//! # What it does not look at
//!
//! What a function with its owner's rights does, trigger functions, and dynamic SQL: their authors know.
//! `docs/audit/README.md` has the list, and all rules.
//!
//! # What it does to the database
//!
//! It reads, in one transaction that is `READ ONLY`. It waits for no lock, and no question runs for
//! longer than [`patience`](Auditor::patience). It reads the catalog, and no table of yours. Any role
//! may run it.

mod allowance;
mod catalog;
mod config;
mod finding;
mod pool;
mod predicate;
mod report;
mod rule;
mod rules;
mod sarif;
mod session;
mod severity;
mod subject;
mod unseen;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sqlx::PgPool;

use crate::error::{Error, ErrorKind};
use catalog::{Catalog, DatabaseOf};
use session::Session;
use subject::Subject;

pub use allowance::Allowance;
pub use config::AuditConfig;
pub use finding::Finding;
pub use report::AuditReport;
pub use rule::Rule;
pub use sarif::Sarif;
pub use severity::Severity;
pub use unseen::Unseen;

/// Looks for ways around the isolation; see [the module](self).
#[derive(Clone, Debug)]
#[must_use = "an auditor does nothing by itself, use `.run(&pool)`"]
pub struct Auditor {
    config: AuditConfig,
    patience: Duration,
}

impl Auditor {
    /// Of the isolation that the configuration describes.
    pub fn new(config: impl Into<AuditConfig>) -> Self {
        Self {
            config: config.into(),
            patience: Duration::from_secs(30),
        }
    }

    /// How long one question may take. Default 30 s, at least 1 ms and at most an hour.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Audits the database of `pool`. One connection is taken out of the pool, and closed at the
    /// end.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`] if an application role is not there, a name of the
    /// configuration cannot be one, or a table of the configuration is not there;
    /// [`ErrorKind::Database`] if the server refused a question, after
    /// [`patience`](Self::patience) for example; [`ErrorKind::Connect`] or
    /// [`ErrorKind::ConnectionLost`] if it could not be asked.
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed. Dropped, it closes its connection.
    pub async fn run(&self, pool: &PgPool) -> Result<AuditReport, Error> {
        self.config.check()?;
        let mut session = Session::begin(pool, self.patience).await?;
        let catalog = Catalog::read(session.catalog(), &self.config).await?;
        let mut unseen = Vec::new();
        let subject = self.subject(&mut session, &catalog, &mut unseen).await?;
        let whose = catalog::database_of(session.catalog()).await?;
        if whose == DatabaseOf::Unknown {
            unseen.push(Unseen::new(
                "tenantry.installation",
                "the auditor's role may not read whether the database belongs to one tenant, so it is \
                 judged as one of many: GRANT USAGE ON SCHEMA tenantry and SELECT on this table",
            ));
        }
        let findings = rules::judge(&mut session, &catalog, &subject, &whose, &mut unseen).await?;
        session.end().await;
        Ok(AuditReport::new(findings, unseen, &self.allowances(false)))
    }

    /// Looks at the sessions of a service's own pool, for what no catalog tells: as whom they log in,
    /// and what is on them as they are handed out. Best after some load, and while nothing else uses
    /// the pool: up to 16 connections are taken at once, with its hooks, and given back.
    ///
    /// It sets nothing, and sees no value of a setting but whether it is empty.
    ///
    /// ```no_run
    /// # async fn example(pool: sqlx::PgPool) -> Result<(), tenantry::Error> {
    /// use tenantry::audit::{AuditConfig, Auditor, Severity};
    ///
    /// let report = Auditor::new(AuditConfig::new("app")).sessions(&pool).await?;
    /// assert!(!report.has(Severity::Medium), "{report}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`] if a name of the configuration cannot be one;
    /// [`ErrorKind::AcquireTimeout`] if the pool gave no connections within
    /// [`patience`](Self::patience); [`ErrorKind::Connect`], [`ErrorKind::ConnectionLost`] or
    /// [`ErrorKind::Database`] if a connection could not be asked.
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed. Dropped, it gives the connections back.
    pub async fn sessions(&self, pool: &PgPool) -> Result<AuditReport, Error> {
        self.config.check()?;
        let key = self.config.key();
        let key = key.iter().map(|column| column.setting.as_str());
        let further = self.config.further_settings.iter().map(String::as_str);
        let settings: Vec<_> = key.chain(further).collect();
        let seen = pool::look(pool, &settings, self.patience).await?;
        let findings = rules::judge_pool(&seen, &self.config.roles);
        Ok(AuditReport::new(
            findings,
            Vec::new(),
            &self.allowances(true),
        ))
    }

    /// Those that can be used here: the others are not to be told of as unused.
    fn allowances(&self, of_pool: bool) -> Vec<Allowance> {
        let all = self.config.allowances.iter();
        all.filter(|allowance| rules::is_of_pool(allowance.rule()) == of_pool)
            .cloned()
            .collect()
    }

    /// Finds what the names of the configuration mean.
    async fn subject(
        &self,
        session: &mut Session,
        catalog: &Catalog,
        unseen: &mut Vec<Unseen>,
    ) -> Result<Subject, Error> {
        let columns = &self.config.columns_of;
        let global = &self.config.global;
        let names = columns.iter().map(|(table, _)| table).chain(global);
        let names: Vec<_> = names.map(String::as_str).collect();
        let found = session.resolve(&names).await?;
        let mut known = Vec::with_capacity(names.len());
        for (name, oid) in names.iter().zip(found) {
            known.push(oid.ok_or_else(|| {
                Error::new(
                    ErrorKind::InvalidOption,
                    format!("the configuration names {name:?}, and there is no such table"),
                )
            })?);
        }
        let (columns_at, global_at) = known.split_at(columns.len());
        let columns: BTreeMap<_, _> = columns_at
            .iter()
            .zip(columns)
            .map(|(oid, (_, column))| (*oid, column.clone()))
            .collect();
        let mut global: BTreeSet<_> = global_at.iter().copied().collect();
        match catalog::reference_tables(session.catalog()).await? {
            Some(tables) => global.extend(tables),
            None => unseen.push(Unseen::new(
                "tenantry.reference_tables",
                "the auditor's role may not read which tables are meant for all tenants, so they \
                 are found as unknown: GRANT USAGE ON SCHEMA tenantry and SELECT on this table",
            )),
        }
        Ok(Subject::new(&self.config, catalog, columns, global))
    }
}
