//! What the application role really reaches, tried out on a database that can be thrown away.

mod asking;
mod crossing;
mod functions;
mod planted;
mod references;
mod seed;
mod tables;
mod views;

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::PgPool;

use super::catalog::{Catalog, Id};
use super::finding::Finding;
use super::rule::Rule;
use super::samples::{Context, Settings};
use super::session::{Access, Session};
use super::severity::Severity::{Critical, High};
use super::subject::Subject;
use super::unseen::Unseen;
use crate::error::{Error, ErrorKind};
use asking::Asking;
use crossing::Crossings;
use planted::Ground;

const PAGE: &str = "probe";

const READS: Rule = Rule::new(
    PAGE,
    "probe-reads-foreign-rows",
    Critical,
    "the application role was shown a row of another tenant",
);
const WRITES: Rule = Rule::new(
    PAGE,
    "probe-writes-foreign-rows",
    Critical,
    "the application role made, changed or removed a row of another tenant",
);
const REFERS: Rule = Rule::new(
    PAGE,
    "probe-refers-to-foreign-rows",
    High,
    "a row of one tenant was made to refer to a row of another",
);
const LEARNS: Rule = Rule::new(
    PAGE,
    "probe-learns-of-foreign-rows",
    High,
    "a refusal told the application role that another tenant has a row",
);

pub(super) const RULES: &[Rule] = &[READS, WRITES, REFERS, LEARNS];

/// Which database is tried, and how far.
///
/// It takes locks that keep others out, and counts on nobody needing what is there: so the database
/// is named, and one of another name is left alone.
///
/// ```no_run
/// use tenantry::audit::{AuditConfig, Auditor, Probe};
///
/// # async fn example(pool: sqlx::PgPool) -> Result<(), tenantry::Error> {
/// let auditor = Auditor::new(AuditConfig::new("app"));
/// let report = auditor.probe(&pool, &Probe::of("shop_copy").functions()).await?;
/// for unseen in report.unseen() {
///     println!("not tried: {unseen}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "it is only a description: hand it to `Auditor::probe`"]
pub struct Probe {
    /// Any, if it is not said.
    database: Option<String>,
    functions: bool,
    /// Whether nobody else is to be kept out of a table.
    is_gentle: bool,
}

impl Probe {
    /// Of the database of this name, which can be thrown away.
    pub fn of(database: impl Into<String>) -> Self {
        Self {
            database: Some(database.into()),
            functions: false,
            is_gentle: false,
        }
    }

    /// Calls the functions and procedures that the application role may call, too, with arguments that
    /// are made up and with NULL, each for a second at most. What they do beyond the database no
    /// rollback undoes: a function that writes a file or asks another server does that.
    pub fn functions(mut self) -> Self {
        self.functions = true;
        self
    }

    /// Of whatever database the pool is of, taking no lock that keeps others out.
    #[cfg(feature = "testing")]
    pub(crate) fn gently() -> Self {
        Self {
            database: None,
            functions: false,
            is_gentle: true,
        }
    }

    /// Refuses a database that was not named.
    pub(super) async fn check(&self, session: &mut Session) -> Result<(), Error> {
        let Some(named) = &self.database else {
            return Ok(());
        };
        let found: String = sqlx::query_scalar("SELECT current_database()::text")
            .persistent(false)
            .fetch_one(session.catalog())
            .await?;
        match found == *named {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::InvalidOption,
                format!("the pool is of the database {found:?}, and {named:?} is to be probed"),
            )),
        }
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Probed {
    pub(super) unseen: Vec<Unseen>,
    /// How many tables took a row of each tenant.
    #[cfg(feature = "testing")]
    pub(super) planted: usize,
}

/// What everything is tried with.
struct Try<'a> {
    session: Session,
    probe: &'a Probe,
    catalog: &'a Catalog,
    subject: &'a Subject,
    ground: Ground<'a>,
    asking: Vec<Asking<'a>>,
    /// For what was planted in each table the user that its policies take, once it was looked for.
    users: Vec<Option<Settings>>,
    /// The functions a call of which succeeded.
    called: BTreeSet<Id>,
    crossings: Crossings,
    unseen: Vec<Unseen>,
}

/// Tries all of it in one transaction, and adds what it saw to the findings of the catalog: the
/// witness to what is known already, and what is not known.
pub(super) async fn run(
    pool: &PgPool,
    probe: &Probe,
    patience: Duration,
    catalog: &Catalog,
    subject: &Subject,
    findings: &mut Vec<Finding>,
) -> Result<Probed, Error> {
    let mut session = Session::begin(pool, Access::Write, patience).await?;
    probe.check(&mut session).await?;
    let mut unseen = Vec::new();
    let asking = asking::all(&mut session, catalog, &mut unseen).await?;
    // Rows of one tenant need nobody to keep them apart.
    if catalog.whose.tenant().is_some() {
        session.end().await;
        return Ok(Probed::default());
    }
    session.put_triggers_aside().await?;
    let ground = planted::plant(&mut session, catalog, subject, &mut unseen).await?;
    let mut all = Try {
        users: vec![None; ground.planted.len()],
        called: BTreeSet::new(),
        session,
        probe,
        catalog,
        subject,
        ground,
        asking,
        crossings: Crossings::default(),
        unseen,
    };
    all.refresh().await?;
    for context in all.contexts() {
        all.tables(context).await?;
        all.views(context).await?;
        if probe.functions {
            all.functions(context).await?;
        }
    }
    all.references().await?;
    all.tell_of_the_rest();
    #[cfg(feature = "testing")]
    let planted = all.ground.planted.len();
    let Try {
        session,
        crossings,
        mut unseen,
        ..
    } = all;
    session.end().await;
    crossings.join(catalog, findings);
    unseen
        .sort_by(|one, other| (one.object(), one.reason()).cmp(&(other.object(), other.reason())));
    unseen.dedup();
    Ok(Probed {
        unseen,
        #[cfg(feature = "testing")]
        planted,
    })
}

impl Try<'_> {
    /// A setting that was set once is never unset again in its session, so that comes first; where
    /// rows could not be planted without a context it does not come at all.
    fn contexts(&self) -> Vec<Context> {
        let mut contexts = vec![Context::Empty, Context::Pattern("%"), Context::Own];
        if self.session.is_above_policies() {
            contexts.insert(0, Context::Unset);
        }
        contexts
    }

    /// What was left out.
    fn tell_of_the_rest(&mut self) {
        if self.probe.functions {
            self.tell_uncalled();
        }
        if !self.session.is_above_policies() {
            self.tell_unwritten();
        }
    }

    /// Notes what kept a try from telling anything.
    fn note(&mut self, object: &str, code: &str) {
        let reason = match code {
            "57014" => "a try took too long",
            "55P03" => "somebody else has locked it",
            _ => return,
        };
        self.unseen.push(Unseen::new(object, reason));
    }
}
