//! The hidden argument, and what a statement must be to get one.

use sqlx::encode::{Encode, IsNull};
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgStatement, PgTypeInfo};
use sqlx::{Arguments as _, AssertSqlSafe, Execute, Postgres, SqlSafeStr as _, SqlStr, Type};

use crate::assertion::Assertion;
use crate::error::{Error, ErrorKind};
use crate::lease::{Connection, Traces};
use crate::settings::ContextSettings;
use crate::statement::{self, Kind};

/// Where a statement is about to run, which decides what it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In autocommit: the statement is the transaction.
    Scope,
    /// Inside a transaction of ours.
    Transaction,
}

/// A statement that has been looked at and found fit for its place, with the caller's arguments.
#[derive(Clone)]
pub(crate) struct Admitted {
    sql: SqlStr,
    /// `None`: the simple protocol, which has no arguments.
    arguments: Option<PgArguments>,
    persistent: bool,
    kind: Kind,
    is_one: bool,
}

impl Admitted {
    /// # Errors
    ///
    /// [`ErrorKind::StatementRefused`], before anything is sent.
    pub(crate) fn new<'q, E>(
        mut query: E,
        place: Place,
        names: &ContextSettings,
    ) -> Result<Self, Error>
    where
        E: Execute<'q, Postgres>,
    {
        let arguments = query.take_arguments().map_err(|error| {
            Error::new(
                ErrorKind::Other,
                "an argument of the statement could not be encoded",
            )
            .with_source(error)
        })?;
        let persistent = query.persistent();
        let sql = query.sql();

        let seen = statement::inspect(sql.as_str(), |name| names.contains(name));
        refuse_everywhere(seen.kind)?;
        if place == Place::Scope {
            refuse_in_autocommit(seen.kind, arguments.is_some())?;
        }
        let bound = arguments.as_ref().map_or(0, |arguments| arguments.len());
        if arguments.is_some() && seen.highest_parameter as usize > bound {
            // The next number is the hidden argument's: the text would read the context.
            return Err(refused(
                "the statement mentions a parameter that has no value bound to it",
            ));
        }
        if bound >= usize::from(u16::MAX) {
            return Err(refused(
                "a statement takes at most 65,534 arguments beside its scope",
            ));
        }
        // A utility statement without arguments gains nothing from the extended protocol, and
        // loses: the conversion of any argument takes the snapshot of a REPEATABLE READ
        // transaction, which must not happen before LOCK TABLE has got its lock.
        let is_utility = seen.kind == Kind::Local || seen.kind > Kind::SessionCall;
        let arguments = arguments.filter(|_| bound > 0 || !is_utility);
        Ok(Self {
            sql,
            arguments,
            persistent,
            kind: seen.kind,
            is_one: seen.statements == 1,
        })
    }

    /// For those who promised that they only read.
    pub(crate) fn only_reads(self) -> Result<Self, Error> {
        if self.kind > Kind::Read {
            return Err(refused(
                "a Reader only reads: take a TenantTx, or a TenantScope, for what writes or locks",
            ));
        }
        Ok(self)
    }

    /// Whether the statement is sent as text, with the context in front of it.
    pub(crate) fn is_simple(&self) -> bool {
        self.arguments.is_none()
    }

    /// For a transaction in which no argument has said the context yet.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::StatementRefused`] if the statement says none itself, and does more than to set
    /// something, lock or notify. Of several in one text only the worst kind is known, and reading is
    /// not the worst.
    pub(crate) fn may_be_first(&self) -> Result<(), Error> {
        let is_harmless = match self.kind {
            Kind::Empty => true,
            Kind::Local => self.is_one,
            _ => false,
        };
        if self.is_simple() && !is_harmless {
            return Err(refused(
                "signed contexts come with an argument, and raw_sql, plain strings and utility \
                 statements have none: run a statement of sqlx::query before them",
            ));
        }
        Ok(())
    }

    /// What the statement may leave on the session.
    pub(crate) fn traces(&self) -> Traces {
        match self.kind {
            kind if kind <= Kind::Local => Traces::None,
            Kind::SessionCall | Kind::Session => Traces::Scrubbable,
            _ => Traces::Lasting,
        }
    }

    /// The statement as it goes to the server: with the hidden argument behind the caller's own,
    /// or, in the simple protocol, behind the statements that set the context.
    pub(crate) fn scoped(
        self,
        assertion: &Assertion,
        connection: &Connection,
    ) -> Result<Scoped, Error> {
        let Some(mut arguments) = self.arguments else {
            let text = format!("{}{}", assertion.set_local(), self.sql.as_str());
            return Ok(Scoped {
                sql: AssertSqlSafe(text).into_sql_str(),
                arguments: None,
                persistent: false,
            });
        };
        arguments
            .add(ScopeArgument {
                bytes: &assertion.argument(),
                oid: connection.scope_oid(),
            })
            .map_err(|error| {
                Error::new(ErrorKind::Other, "the scope argument could not be encoded")
                    .with_source(error)
            })?;
        Ok(Scoped {
            sql: self.sql,
            arguments: Some(arguments),
            persistent: self.persistent && connection.caches(),
        })
    }
}

/// The parameter types for preparing `sql`, so that it shares the cached statement with its later
/// executions: those that the caller names, the server's own inference for the others, and the
/// scope's behind them.
pub(crate) fn parameters(
    sql: &str,
    named: &[PgTypeInfo],
    names: &ContextSettings,
    place: Place,
    scope: Oid,
) -> Result<Vec<PgTypeInfo>, Error> {
    let seen = statement::inspect(sql, |name| names.contains(name));
    refuse_everywhere(seen.kind)?;
    match place {
        Place::Scope if seen.kind > Kind::Write => return Err(refused(IN_A_TRANSACTION)),
        Place::Transaction if seen.kind == Kind::Local || seen.kind > Kind::SessionCall => {
            return Err(refused(
                "a statement of this kind is not prepared: execute it",
            ));
        }
        _ => {}
    }
    let own = named.len().max(seen.highest_parameter as usize);
    if own >= usize::from(u16::MAX) {
        return Err(refused(
            "a statement takes at most 65,534 arguments beside its scope",
        ));
    }
    // An OID of zero leaves the type to the server (Parse, in PostgreSQL's message formats).
    let mut types = named.to_vec();
    types.resize(own, PgTypeInfo::with_oid(Oid(0)));
    types.push(PgTypeInfo::with_oid(scope));
    Ok(types)
}

const IN_A_TRANSACTION: &str = "the statement may leave traces on the session, or needs more than \
     one transaction: run it in a transaction, see TenantScope::begin";

fn refuse_everywhere(kind: Kind) -> Result<(), Error> {
    match kind {
        Kind::TransactionControl => Err(refused(
            "transactions are begun and ended by methods: TenantScope::begin, TenantTx::commit, \
             rollback and savepoint",
        )),
        Kind::Context => Err(refused(
            "the settings of the tenant context are set by the scope alone: get a scope of the \
             other context from the registry",
        )),
        Kind::Copy => Err(refused(
            "COPY streams: use TenantTx::copy_in_raw or TenantTx::copy_out_raw",
        )),
        _ => Ok(()),
    }
}

fn refuse_in_autocommit(kind: Kind, has_arguments: bool) -> Result<(), Error> {
    if !has_arguments {
        return Err(refused(
            "raw_sql and plain strings carry no arguments, and so no scope: use sqlx::query, or \
             run them in a transaction, see TenantScope::begin",
        ));
    }
    if kind > Kind::Write {
        return Err(refused(IN_A_TRANSACTION));
    }
    Ok(())
}

/// `Executor::describe` prepares a text without its scope, for the macros at build time.
pub(crate) fn describe_is_for_macros() -> Error {
    refused("describe serves sqlx's macros at build time: use prepare")
}

fn refused(message: &'static str) -> Error {
    Error::new(ErrorKind::StatementRefused, message)
}

/// What is handed to sqlx.
#[derive(Clone)]
pub(crate) struct Scoped {
    sql: SqlStr,
    arguments: Option<PgArguments>,
    persistent: bool,
}

impl Execute<'_, Postgres> for Scoped {
    fn sql(self) -> SqlStr {
        self.sql
    }

    /// What a database said of the statement when it was prepared holds for the tenant that asked:
    /// where another has a schema of its own, its columns may be others. To be told anew costs no
    /// round trip, and once a connection.
    fn statement(&self) -> Option<&PgStatement> {
        None
    }

    fn take_arguments(&mut self) -> Result<Option<PgArguments>, BoxDynError> {
        Ok(self.arguments.take())
    }

    fn persistent(&self) -> bool {
        self.persistent
    }
}

/// A value of the domain `tenantry.scope`.
struct ScopeArgument<'a> {
    bytes: &'a [u8],
    oid: Oid,
}

impl Type<Postgres> for ScopeArgument<'_> {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("tenantry.scope")
    }
}

impl Encode<'_, Postgres> for ScopeArgument<'_> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(self.bytes);
        Ok(IsNull::No)
    }

    /// By number, so that no connection has to look the name up.
    fn produces(&self) -> Option<PgTypeInfo> {
        Some(PgTypeInfo::with_oid(self.oid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: Oid = Oid(70_000);

    fn prepared(sql: &str, named: &[PgTypeInfo], place: Place) -> Result<Vec<u32>, ErrorKind> {
        let names = ContextSettings::default();
        let types = parameters(sql, named, &names, place, SCOPE);
        types
            .map(|types| {
                types
                    .iter()
                    .filter_map(|t| t.oid().map(|oid| oid.0))
                    .collect()
            })
            .map_err(|error| error.kind())
    }

    fn admitted(sql: &'static str, bound: usize, place: Place) -> Result<Admitted, ErrorKind> {
        let mut query = sqlx::query(sql);
        for number in 0..bound {
            query = query.bind(i64::try_from(number).expect("a small one"));
        }
        let names = ContextSettings::default();
        Admitted::new(query, place, &names).map_err(|error| error.kind())
    }

    const REFUSED: ErrorKind = ErrorKind::StatementRefused;

    #[test]
    fn types_are_the_callers_then_the_servers_then_the_scope() {
        let bigint = [PgTypeInfo::with_oid(Oid(20))];
        let read = |sql, named: &[_]| prepared(sql, named, Place::Scope);
        assert_eq!(read("SELECT 1", &[]), Ok(vec![SCOPE.0]));
        assert_eq!(read("SELECT $1, $3", &[]), Ok(vec![0, 0, 0, SCOPE.0]));
        assert_eq!(read("SELECT $2", &bigint), Ok(vec![20, 0, SCOPE.0]));
        assert_eq!(read("SELECT 1", &bigint), Ok(vec![20, SCOPE.0]));
        let most = prepared("SELECT $65534", &[], Place::Scope).map(|types| types.len());
        assert_eq!(most, Ok(65_535));
        assert_eq!(read("SELECT $65535", &[]), Err(REFUSED));
    }

    /// A statement of each kind, and whether it is prepared outside and inside a transaction.
    #[test]
    fn what_is_prepared_depends_on_where() {
        for (sql, outside, inside) in [
            ("SELECT 1", true, true),
            ("DELETE FROM t", true, true),
            ("SET LOCAL enable_sort = off", false, false),
            (
                "SELECT set_config('enable_sort', 'off', false)",
                false,
                true,
            ),
            ("SET enable_sort = off", false, false),
            ("DEALLOCATE ALL", false, false),
            ("COPY t TO STDOUT", false, false),
            ("RESET ALL", false, false),
            ("COMMIT", false, false),
        ] {
            let is_prepared = |place| match prepared(sql, &[], place) {
                Ok(types) => types == [SCOPE.0],
                Err(kind) => {
                    assert_eq!(kind, REFUSED, "{sql}");
                    false
                }
            };
            assert_eq!(is_prepared(Place::Scope), outside, "{sql}");
            assert_eq!(is_prepared(Place::Transaction), inside, "{sql}");
        }
    }

    /// The same for what is executed, with how it is sent and what it may leave.
    #[test]
    fn what_is_executed_depends_on_where() {
        use Traces::{Lasting, None as Nothing, Scrubbable};
        for (sql, outside, inside) in [
            ("SELECT 1", true, Some((false, Nothing))),
            ("DELETE FROM t", true, Some((false, Nothing))),
            ("SET LOCAL enable_sort = off", false, Some((true, Nothing))),
            (
                "SELECT set_config('enable_sort', 'off', false)",
                false,
                Some((false, Scrubbable)),
            ),
            ("SET enable_sort = off", false, Some((true, Scrubbable))),
            ("DEALLOCATE ALL", false, Some((true, Lasting))),
            ("COPY t TO STDOUT", false, None),
            ("RESET ALL", false, None),
            ("COMMIT", false, None),
        ] {
            assert_eq!(admitted(sql, 0, Place::Scope).is_ok(), outside, "{sql}");
            let inside_is = match admitted(sql, 0, Place::Transaction) {
                Ok(admitted) => Some((admitted.is_simple(), admitted.traces())),
                Err(kind) => {
                    assert_eq!(kind, REFUSED, "{sql}");
                    None
                }
            };
            assert_eq!(inside_is, inside, "{sql}");
        }
    }

    #[test]
    fn an_argument_takes_a_utility_statement_out_of_the_simple_protocol() {
        let notify = admitted("SET LOCAL enable_sort = off", 1, Place::Transaction);
        assert!(!notify.expect("admitted").is_simple());
    }

    #[test]
    fn a_parameter_without_a_value_is_refused() {
        assert!(admitted("SELECT $1", 0, Place::Scope).is_err());
        assert!(admitted("SELECT $2", 1, Place::Scope).is_err());
        assert!(admitted("SELECT $2", 2, Place::Scope).is_ok());
        assert!(admitted("SELECT 1", 1, Place::Scope).is_ok());
    }

    #[test]
    fn who_only_reads_does_not_write() {
        let only = |sql| {
            let admitted = admitted(sql, 0, Place::Transaction).expect("admitted");
            admitted.only_reads().is_ok()
        };
        assert!(only("SELECT 1"));
        assert!(only(""));
        assert!(!only("DELETE FROM t"));
        assert!(!only("SET LOCAL enable_sort = off"));
    }
}
