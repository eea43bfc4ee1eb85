//! The frame that every script shares.

use sqlx::{AssertSqlSafe, PgConnection};

use crate::error::{Error, ErrorKind};

/// "tenantry" in ASCII: the advisory lock under which scripts run, so that two of them never
/// change the same catalog row ("tuple concurrently updated").
const LOCK: i64 = 0x7465_6e61_6e74_7279;

/// What a script can refuse, beside what PostgreSQL refuses itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    RoleMissing,
    ReaderMissing,
    NewerLayout,
    SettingRenamed,
    FurtherNotAppended,
    TenantChanged,
    ForeignDomain,
    TemporaryKept,
    ColumnType,
    ColumnCollation,
    RowsWithoutTenant,
    NotInstalled,
    NotATable,
    DangerousRoleMissing,
    DangerousRoleOwns,
    OtherSeal,
    SealTaken,
}

impl Refusal {
    const ALL: [Self; 17] = [
        Self::RoleMissing,
        Self::ReaderMissing,
        Self::NewerLayout,
        Self::SettingRenamed,
        Self::FurtherNotAppended,
        Self::TenantChanged,
        Self::ForeignDomain,
        Self::TemporaryKept,
        Self::ColumnType,
        Self::ColumnCollation,
        Self::RowsWithoutTenant,
        Self::NotInstalled,
        Self::NotATable,
        Self::DangerousRoleMissing,
        Self::DangerousRoleOwns,
        Self::OtherSeal,
        Self::SealTaken,
    ];

    /// An SQLSTATE of a class that neither the standard nor PostgreSQL uses.
    fn code(self) -> &'static str {
        match self {
            Self::RoleMissing => "TN001",
            Self::ReaderMissing => "TN013",
            Self::NewerLayout => "TN002",
            Self::SettingRenamed => "TN003",
            Self::FurtherNotAppended => "TN004",
            Self::TenantChanged => "TN005",
            Self::ForeignDomain => "TN006",
            Self::TemporaryKept => "TN007",
            Self::ColumnType => "TN008",
            Self::ColumnCollation => "TN012",
            Self::RowsWithoutTenant => "TN009",
            Self::NotInstalled => "TN010",
            Self::NotATable => "TN011",
            Self::DangerousRoleMissing => "TN014",
            Self::DangerousRoleOwns => "TN015",
            Self::OtherSeal => "TN016",
            Self::SealTaken => "TN017",
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::RoleMissing => "the application role does not exist: create it first",
            Self::ReaderMissing => {
                "the role that reads the table of tenants does not exist: create it first"
            }
            Self::NewerLayout => {
                "the database was installed by a newer release of tenantry: install with that one"
            }
            Self::SettingRenamed => {
                "the database was installed with other names for the tenant or the user setting: \
                 policies and open connections depend on them, so they stay"
            }
            Self::FurtherNotAppended => {
                "the database was installed with further settings that are not the first ones of \
                 this list: append new ones behind those it knows"
            }
            Self::TenantChanged => {
                "the database belongs to one tenant, and this installation names another one or none"
            }
            Self::ForeignDomain => {
                "there is a type tenantry.scope that tenantry did not make: move it away"
            }
            Self::TemporaryKept => {
                "the privilege TEMPORARY could not be revoked from PUBLIC and the application role: \
                 install as the owner of the database, or revoke it as the role that granted it"
            }
            Self::ColumnType => {
                "the table has a tenant column of another type than the installation names"
            }
            Self::ColumnCollation => {
                "the tenant column has a collation that takes different tenants for the same: give \
                 it a deterministic one"
            }
            Self::RowsWithoutTenant => {
                "the table has rows without a tenant: fill the tenant column first"
            }
            Self::NotInstalled => {
                "the schema tenantry is missing: run Installation::install on the database first"
            }
            Self::NotATable => {
                "only a table can hold the rows of tenants, not a view or another relation"
            }
            Self::DangerousRoleMissing => {
                "the role for dangerous access does not exist: create it first"
            }
            Self::DangerousRoleOwns => {
                "the role for dangerous access is a superuser, or owns the record of it or can \
                 become its owner: name one that could not do away with it"
            }
            Self::OtherSeal => {
                "the database is sealed and this installation is not, or the other way round: \
                 describe both alike, see Installation::sealed"
            }
            Self::SealTaken => {
                "the database is sealed, or prepared for it, and this installation asks for less: say \
                 so with Installation::unseal if that is meant"
            }
        }
    }

    /// The plpgsql statement that raises it.
    pub(super) fn raise(self) -> String {
        let message = crate::quote::literal(self.message());
        format!(
            "RAISE EXCEPTION USING ERRCODE = '{}', MESSAGE = {message};",
            self.code()
        )
    }

    fn of(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|refusal| refusal.code() == code)
    }
}

/// One `DO` statement around `body`, under the lock and with names pinned to `pg_catalog`.
///
/// The caller's `search_path` is only used for `declarations`, which look unqualified table names
/// up, and is put back at the end, because the transaction may be a migration tool's.
pub(super) fn script(declarations: &str, body: &str) -> String {
    let mut tag = "$tenantry$".to_owned();
    while declarations.contains(&tag) || body.contains(&tag) {
        tag.insert(tag.len() - 1, '_');
    }
    format!(
        "DO {tag}
DECLARE
  caller_path constant text := pg_catalog.current_setting('search_path');
{declarations}BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  PERFORM pg_advisory_xact_lock({LOCK}); -- one script at a time
{body}  PERFORM pg_catalog.set_config('search_path', caller_path, true);
END
{tag};
"
    )
}

/// Runs a script.
pub(super) async fn run(connection: &mut PgConnection, script: String) -> Result<(), Error> {
    sqlx::raw_sql(AssertSqlSafe(script))
        .execute(connection)
        .await
        .map_err(explain)?;
    Ok(())
}

/// A refusal of a script is of the kind [`ErrorKind::Installation`] and says what to do.
fn explain(error: sqlx::Error) -> Error {
    let refusal = match &error {
        sqlx::Error::Database(database) => database.code().and_then(|code| Refusal::of(&code)),
        _ => None,
    };
    match refusal {
        Some(refusal) => Error::new(ErrorKind::Installation, refusal.message()).with_source(error),
        None => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_cannot_end_its_own_quotes() {
        let text = script("", "  x := '$tenantry$ $tenantry_$';\n");
        assert!(text.starts_with("DO $tenantry__$\n"), "{text}");
        assert_eq!(text.matches("$tenantry__$").count(), 2);
    }

    #[test]
    fn every_refusal_has_its_own_code() {
        for refusal in Refusal::ALL {
            assert_eq!(Refusal::of(refusal.code()), Some(refusal));
        }
    }
}
