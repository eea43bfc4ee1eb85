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
//!
//! [`Auditor::probe`] is another matter: it tries what the application role can do, and is for a
//! database that can be thrown away.

mod allowance;
mod catalog;
mod config;
mod finding;
mod pool;
mod predicate;
mod probe;
mod report;
mod rule;
mod rules;
mod samples;
mod sarif;
mod session;
mod severity;
mod subject;
mod unseen;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sqlx::PgPool;

use crate::error::{Error, ErrorKind};
use catalog::{Catalog, DatabaseOf, Id};
use session::{Access, Session};
use subject::Subject;

pub use allowance::Allowance;
pub use config::AuditConfig;
pub use finding::Finding;
pub use probe::Probe;
pub use report::AuditReport;
pub use rule::Rule;
pub use sarif::Sarif;
pub use severity::Severity;
pub use unseen::Unseen;

/// What there is to say of a database.
pub(crate) struct Examined {
    pub(crate) report: AuditReport,
    /// `server_version_num`.
    #[cfg(feature = "testing")]
    pub(crate) version: u32,
    /// Whether it belongs to one tenant.
    #[cfg(feature = "testing")]
    pub(crate) is_of_one_tenant: bool,
    /// The tables of tenants that were judged.
    #[cfg(feature = "testing")]
    pub(crate) tables: Vec<String>,
    /// How many of them were tried with rows.
    #[cfg(feature = "testing")]
    pub(crate) planted: usize,
}

/// The most that one question may take.
const MOST: Duration = Duration::from_secs(3_600);

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
    /// configuration cannot be one, or a table or column of the configuration is not there;
    /// [`ErrorKind::Database`] if the server refused a question, after
    /// [`patience`](Self::patience) for example; [`ErrorKind::Connect`] or
    /// [`ErrorKind::ConnectionLost`] if it could not be asked.
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed. Dropped, it closes its connection.
    pub async fn run(&self, pool: &PgPool) -> Result<AuditReport, Error> {
        Ok(self.examine(pool, None).await?.report)
    }

    /// Audits the database of `pool`, and then tries as the application role to get at rows of another
    /// tenant: those of two that are made up are put into each table that takes them, and every
    /// statement, view and foreign key is tried against them, in the context of the other one, in that
    /// of `%` and without any. What gets across is the witness of the finding that the catalog led to,
    /// or a finding of its own. `docs/audit/probing.md` says all that is tried.
    ///
    /// All of it is one transaction, which is rolled back; the connection is closed. While it runs
    /// tables are locked, as by TRUNCATE if the application role may do that. A rollback does not undo
    /// what functions do beyond the database, and what they do to sequences; they are called only if
    /// [`Probe::functions`] says so. The values of sequences are not used up otherwise, unless a
    /// default that is no identity and no plain `nextval` takes one.
    ///
    /// The pool logs in as a superuser, as a role that may become the application role, or as the
    /// application role itself. A superuser's sees most: triggers and foreign keys are put aside for
    /// everything that is not about foreign keys.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidOption`] if the database is not the one that `probe` names: nothing was
    ///   tried; and as [`run`](Self::run) says.
    /// - [`ErrorKind::Installation`] if the role of the pool may not become an application role.
    /// - The others of [`run`](Self::run).
    ///
    /// # Cancel safety
    ///
    /// Dropped, it closes its connection, and the server rolls back.
    pub async fn probe(&self, pool: &PgPool, probe: &Probe) -> Result<AuditReport, Error> {
        Ok(self.examine(pool, Some(probe)).await?.report)
    }

    /// Both, with what a proof wants to know beside the findings.
    pub(crate) async fn examine(
        &self,
        pool: &PgPool,
        probe: Option<&Probe>,
    ) -> Result<Examined, Error> {
        self.config.check()?;
        let mut session = Session::begin(pool, Access::Read, self.patience).await?;
        if let Some(probe) = probe {
            probe.check(&mut session).await?;
            session.take_time(self.patience.min(MOST));
        }
        let catalog = Catalog::read(session.catalog(), &self.config).await?;
        let mut unseen = Vec::new();
        if catalog.whose == DatabaseOf::Unknown {
            unseen.push(Unseen::new(
                "tenantry.installation",
                "the auditor's role may not read whether the database belongs to one tenant, so it is \
                 judged as one of many: GRANT USAGE ON SCHEMA tenantry and SELECT on this table",
            ));
        }
        let subject = self.subject(&mut session, &catalog, &mut unseen).await?;
        let mut findings = rules::judge(&mut session, &catalog, &subject, &mut unseen).await?;
        #[cfg(feature = "testing")]
        let reviewed = self.reviewed(&mut session, &catalog).await?;
        session.end().await;
        let probed = match probe {
            Some(probe) => {
                let patience = self.patience;
                probe::run(pool, probe, patience, &catalog, &subject, &mut findings).await?
            }
            None => probe::Probed::default(),
        };
        unseen.extend(probed.unseen);
        #[cfg(feature = "testing")]
        {
            findings.retain(|finding| !reviewed.contains(finding.object()));
            unseen.retain(|unseen| !reviewed.contains(unseen.object()));
        }
        Ok(Examined {
            report: AuditReport::new(findings, unseen, &self.allowances(false)),
            #[cfg(feature = "testing")]
            version: catalog.version,
            #[cfg(feature = "testing")]
            is_of_one_tenant: catalog.whose.tenant().is_some(),
            #[cfg(feature = "testing")]
            tables: subject
                .judged(&catalog)
                .into_iter()
                .filter(|table| !reviewed.contains(table))
                .collect(),
            #[cfg(feature = "testing")]
            planted: probed.planted,
        })
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
        let known = known(session, names).await?;
        let (columns_at, global_at) = known.split_at(columns.len());
        let mut columns_of = BTreeMap::new();
        for (oid, (table, column)) in columns_at.iter().zip(columns) {
            let relation = catalog.relations.get(oid);
            if relation.is_none_or(|relation| relation.column(column).is_none()) {
                return Err(Error::new(
                    ErrorKind::InvalidOption,
                    format!(
                        "the configuration names the column {column:?} of {table:?}, which has none of that name"
                    ),
                ));
            }
            columns_of.insert(*oid, column.clone());
        }
        let mut global: BTreeSet<_> = global_at.iter().copied().collect();
        match catalog::reference_tables(session.catalog()).await? {
            Some(tables) => global.extend(tables),
            None => unseen.push(Unseen::new(
                "tenantry.reference_tables",
                "the auditor's role may not read which tables are meant for all tenants, so they \
                 are found as unknown: GRANT USAGE ON SCHEMA tenantry and SELECT on this table",
            )),
        }
        Ok(Subject::new(&self.config, catalog, columns_of, global))
    }

    /// What is not to be spoken of, as findings name it.
    #[cfg(feature = "testing")]
    async fn reviewed(
        &self,
        session: &mut Session,
        catalog: &Catalog,
    ) -> Result<BTreeSet<String>, Error> {
        let oids = known(session, &self.config.reviewed).await?;
        let functions = catalog.functions.iter();
        let functions = functions.map(|function| (function.oid, &function.display));
        let relations = catalog.relations.values();
        let relations = relations.map(|relation| (relation.oid, &relation.display));
        Ok(functions
            .chain(relations)
            .filter(|(oid, _)| oids.contains(oid))
            .map(|(_, display)| display.clone())
            .collect())
    }
}

/// What all of these names mean.
async fn known(
    session: &mut Session,
    names: impl IntoIterator<Item = &String>,
) -> Result<Vec<Id>, Error> {
    let names: Vec<_> = names.into_iter().map(String::as_str).collect();
    let found = session.resolve(&names).await?;
    let of = names.iter().zip(found);
    of.map(|(name, oid)| {
        oid.ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidOption,
                format!("the configuration names {name:?}, and there is nothing of that name"),
            )
        })
    })
    .collect()
}
