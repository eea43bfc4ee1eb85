//! Whether a database keeps tenants apart, asked in a test.
//!
//! ```no_run
//! use tenantry::sql::{Installation, TenantType};
//!
//! # async fn example(pool: sqlx::PgPool) {
//! // After the migrations, in the database that the test has.
//! let installation = Installation::new("app").tenant_column("tenant_id", TenantType::Text);
//! tenantry::assert_isolated!(&pool, &installation);
//! # }
//! ```
//!
//! It is a closed world: a table, a view or a function with its owner's rights that the application
//! role can reach is known to keep tenants apart, or is on a list of [`Isolation`], or is a finding.
//! So a table that is added later turns the test red until somebody has thought of it.
//!
//! # How it is judged
//!
//! By an [`Auditor`] and its probe, which a service may have run over its live database too:
//!
//! * **By the catalog**: every rule of [`audit`](crate::audit).
//! * **By evaluation**: the policies that apply to a command, put together as PostgreSQL puts them,
//!   are evaluated in the server, as the application role, on made-up rows of one tenant and of
//!   others: in the context of the first, without a context, and with `%` for one. That needs
//!   no row in any table. It works on policies of your own as on generated ones.
//! * **By trying**: in a transaction that is rolled back, a row of each of two tenants is put into
//!   each table that takes one, and then the application role tries to read, change, move, remove and
//!   add rows of the other one, through whatever it can reach. Nothing of that touches other rows than
//!   those, or keeps others out of a table: what [`Auditor::probe`] does beyond it, on a database that
//!   can be thrown away, is not done.
//!
//! A database that [belongs to one tenant](crate::sql::Installation::database_of) is asked whether
//! it refuses another one, and its tables are not judged.
//!
//! Red is whatever matters more than [`Severity::Info`](crate::audit::Severity::Info), and of what
//! leaks nothing by itself: policies that let nobody use a privilege, or that nobody can judge, FORCE
//! that is off, functions with their owner's rights and no search path of their own, grants to PUBLIC,
//! and temporary tables. That before PostgreSQL 15 everybody may make objects in the schema `public`, as
//! the server has it, is for the auditor. What is to stay is allowed, with the reason: [`Isolation::allow`].
//!
//! # What it does not see
//!
//! What the auditor does not, and what a session carries from one tenant to the next. That the crate
//! itself looks after. A policy of yours whose loss opens nothing and closes nothing, a second one that
//! says the same for example, is not missed.

mod report;
mod subject;

use sqlx::PgPool;

use crate::audit::{Auditor, Probe};
use crate::error::{Error, ErrorKind};

pub use report::IsolationReport;
pub use subject::Isolation;

/// Looks whether the database of `pool` keeps tenants apart from each other; see
/// [the module](self) for how, and for what it does not see.
///
/// The pool is logged in as a superuser, as that of `#[sqlx::test]` mostly is, or as a role that
/// may become the application role, or as the application role itself. As a superuser it sees
/// most: others cannot put rows into every table.
///
/// Two connections are taken out of the pool, one after the other, and closed at the end. What is
/// tried happens in one transaction that is rolled back; tables are locked for as long as that takes
/// as by an INSERT, and triggers do not fire if the pool is a superuser's, unless it is about foreign
/// keys.
///
/// [`assert_isolated!`](crate::assert_isolated) is the same in a line.
///
/// # Errors
///
/// - [`ErrorKind::InvalidOption`] if an application role is not there, if a name on a list is not
///   there or cannot be one, if the two contexts are of one tenant, and if there is nothing to prove:
///   no table with the tenant column that the application role can reach;
/// - [`ErrorKind::Installation`] if the pool's role may not become the application role;
/// - [`ErrorKind::Connect`], [`ErrorKind::Database`], [`ErrorKind::ConnectionLost`] and the like if the
///   server did not answer.
///
/// # Cancel safety
///
/// Cancel safe: the connection is closed, and the server rolls back.
pub async fn prove_isolation(
    pool: &PgPool,
    isolation: impl Into<Isolation>,
) -> Result<IsolationReport, Error> {
    let auditor = Auditor::new(isolation.into().config());
    let examined = auditor.examine(pool, Some(&Probe::gently())).await?;
    let is_of_one_tenant = examined.is_of_one_tenant;
    let report = IsolationReport::new(examined);
    if report.tables().next().is_none() && report.is_isolated() && !is_of_one_tenant {
        return Err(Error::new(
            ErrorKind::InvalidOption,
            "the application role can reach no table with the tenant column: run the migrations \
             first, or name the column with `Isolation::tenant_column`",
        ));
    }
    Ok(report)
}

/// Panics unless the database of a pool keeps tenants apart; in an `async` test.
///
/// `assert_isolated!(&pool, isolation)` is [`prove_isolation`](crate::testing::isolation::prove_isolation) with
/// its report [asserted](crate::testing::isolation::IsolationReport::assert). `isolation` is an
/// [`Isolation`](crate::testing::isolation::Isolation) or an
/// [`Installation`](crate::sql::Installation).
///
/// # Panics
///
/// With each finding and what to do about it; and if the proof could not be done.
#[macro_export]
macro_rules! assert_isolated {
    ($pool:expr, $isolation:expr $(,)?) => {
        match $crate::testing::isolation::prove_isolation($pool, $isolation).await {
            ::std::result::Result::Ok(report) => report.assert(),
            ::std::result::Result::Err(error) => ::std::panic!(
                "whether tenants are kept apart could not be found out: {error}; {:?}",
                ::std::error::Error::source(&error),
            ),
        }
    };
}
