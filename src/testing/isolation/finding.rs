//! One thing that is not as it should be.

use std::fmt;

/// What a proof of isolation found, with what to do about it.
///
/// `Display` is all of it, for a terminal: it holds names and SQL of the database, and rows that
/// were made up, and no value of a real row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IsolationFinding {
    rule: IsolationRule,
    object: String,
    problem: String,
    remedy: String,
}

/// What an [`IsolationFinding`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum IsolationRule {
    /// The application role, or one it can become, is above policies: a superuser, `BYPASSRLS`,
    /// `CREATEROLE` up to PostgreSQL 15, `REPLICATION`, or may read the server's files.
    RoleBypasses,
    /// The application role, or one it can become, owns a table, the database or what tenantry
    /// installed, and can undo what protects it.
    RoleOwns,
    /// A table of tenants without row-level security.
    RowSecurityOff,
    /// Row-level security that does not hold for the owner of the table, and so neither for views
    /// and functions that run with its rights.
    NotForced,
    /// The application role holds a privilege that no policy lets it use, on any row. Nothing leaks:
    /// a policy has been dropped, or a privilege is held that nobody needs.
    NoPolicy,
    /// Of the two policies of a [`TenantTable`](crate::sql::TenantTable) one is missing, or does not
    /// hold by itself.
    PolicyChanged,
    /// The policies let the application role reach a row of another tenant.
    ForeignRowReached,
    /// The policies let the application role write a row for another tenant, or for none.
    ForeignRowWritten,
    /// A privilege that no policy restrains (`TRUNCATE`, `TRIGGER`), a table of tenants granted to
    /// `PUBLIC`, or one that all tenants read and may write.
    Privilege,
    /// A table that the application role can reach and that is neither of tenants nor on a list.
    UnknownTable,
    /// A view, a materialized view, a foreign table or a rule that goes round the policies.
    GoesRound,
    /// A function that goes round the policies: with its owner's rights, or `LEAKPROOF`.
    FunctionGoesRound,
    /// The database belongs to one tenant and takes another one's statements.
    AnotherTenant,
    /// Nobody can tell: the policies let no row through that was made up, not even the tenant's own.
    NotJudged,
    /// A name on a list of [`Isolation`](super::Isolation) that is not there.
    NotThere,
    /// There is no table of tenants: the migrations have not been run, or the tenant column has
    /// another name.
    NothingToProve,
}

impl IsolationFinding {
    pub(super) fn new(
        rule: IsolationRule,
        object: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            rule,
            object: object.into(),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    /// What it is about.
    pub fn rule(&self) -> IsolationRule {
        self.rule
    }

    /// The role, table, view, function or name.
    pub fn object(&self) -> &str {
        &self.object
    }

    /// What is wrong.
    pub fn problem(&self) -> &str {
        &self.problem
    }

    /// What to do: mostly SQL. Read it before you run it.
    pub fn remedy(&self) -> &str {
        &self.remedy
    }
}

impl fmt::Display for IsolationFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            object,
            problem,
            remedy,
            ..
        } = self;
        write!(f, "{object} {problem}; what to do: {remedy}")
    }
}
