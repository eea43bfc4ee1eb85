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
//! * **By the catalog**: the role, with all it can become; privileges; row-level security, and
//!   whether it is forced; policies that are missing; views, functions and rules that go round it.
//! * **By evaluation**: the policies that apply to a command, put together as PostgreSQL puts them,
//!   are evaluated in the server, as the application role, on made-up rows of one tenant and of
//!   others: in the context of the first, without a context, and with `%` for one. That needs
//!   no row in any table. It works on policies of your own as on generated ones.
//! * **By trying**: in a transaction that is rolled back, a row of each of two tenants is put into
//!   each table that takes one, and then the application role looks for rows that are not its
//!   tenant's in whatever has a tenant column, and tries to write one.
//!
//! A database that [belongs to one tenant](crate::sql::Installation::database_of) is asked whether
//! it refuses another one, and its tables are not judged.
//!
//! # What it does not see
//!
//! It is no audit. A policy that lets some row through which is not among those made up is not
//! seen, nor is anything that is reached by none of the ways above:
//!
//! * keys and foreign keys across tenants, which tell that a row is there, or delete it: that is
//!   [`TenantTable::advice`](crate::sql::TenantTable::advice);
//! * what a function with its owner's rights does that is on the list, and trigger functions;
//! * default privileges, who may create what where, other roles that log in, what extensions bring;
//! * what the server tells of its own: statistics, sequences, the sizes of relations, other
//!   sessions' statements, large objects, advisory locks, notifications;
//! * what a session carries from one tenant to the next. That the crate itself looks after.
//!
//! A policy of yours whose loss opens nothing and closes nothing, a second one that says the same
//! for example, is not missed.

mod attempt;
mod catalog;
mod evaluation;
mod finding;
mod policy;
mod proof;
mod report;
mod samples;
mod session;
mod subject;
mod table;

use sqlx::PgPool;

use crate::error::Error;

pub use finding::{IsolationFinding, IsolationRule};
pub use report::IsolationReport;
pub use subject::Isolation;

/// Looks whether the database of `pool` keeps tenants apart from each other; see
/// [the module](self) for how, and for what it does not see.
///
/// The pool is logged in as a superuser, as that of `#[sqlx::test]` mostly is, or as a role that
/// may become the application role, or as the application role itself. As a superuser it sees
/// most: others cannot put rows into every table.
///
/// One connection is taken out of the pool and closed at the end. All happens in one transaction
/// that is rolled back; tables are locked for as long as that takes as by an INSERT, and triggers
/// do not fire if the pool is a superuser's.
///
/// [`assert_isolated!`](crate::assert_isolated) is the same in a line.
///
/// # Errors
///
/// - [`ErrorKind::Installation`](crate::ErrorKind::Installation) if a role does not exist, or if the
///   pool's role may not become it;
/// - [`ErrorKind::Connect`](crate::ErrorKind::Connect), [`ErrorKind::Database`],
///   [`ErrorKind::ConnectionLost`](crate::ErrorKind::ConnectionLost) and the like if the server did
///   not answer. A name on a list that cannot be read as one is [`ErrorKind::Database`], too.
///
/// [`ErrorKind::Database`]: crate::ErrorKind::Database
///
/// # Cancel safety
///
/// Cancel safe: the connection is closed, and the server rolls back.
pub async fn prove_isolation(
    pool: &PgPool,
    isolation: impl Into<Isolation>,
) -> Result<IsolationReport, Error> {
    proof::prove(pool, &isolation.into()).await
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
