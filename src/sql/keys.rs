//! The keys of a sealed database.

use sqlx::PgConnection;

use super::installation::Installation;
use super::{script, seal};
use crate::error::{Error, ErrorKind};
use crate::signing::SigningKey;

/// The keys of a database that was installed with [`sealed`](Self::sealed) or
/// [`prepare_seal`](Self::prepare_seal). They are in no script: secrets come as bound arguments, or
/// are made by the server.
impl Installation {
    /// Lets processes sign with this key, beside those that the database knows already. As the role
    /// that has run the installation.
    ///
    /// A key is replaced while everything runs by adding the new one, deploying it to the
    /// processes, and [retiring](Self::retire_signing_key) the old one.
    ///
    /// With `log_statement` on, the server's log shows bound arguments. A superuser's session is
    /// kept from that here; others set `log_parameter_max_length` to 0 beforehand.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Connect`] if the secret of the key could not be had, [`ErrorKind::InvalidOption`]
    ///   if it is too short;
    /// - [`ErrorKind::Installation`] if the database has no installation with a seal, or knows a
    ///   key of this id with another secret;
    /// - [`ErrorKind::Database`] if the server refused the statement, for want of a privilege for
    ///   example.
    ///
    /// # Cancel safety
    ///
    /// The key is added or not. If the future is dropped, the connection has to be given up.
    pub async fn add_signing_key(
        connection: &mut PgConnection,
        key: &SigningKey,
    ) -> Result<(), Error> {
        let pads = key.pads().await?;
        let outer: Option<String> = sqlx::query_scalar(KEEP_QUIET)
            .persistent(false)
            .fetch_optional(&mut *connection)
            .await?;
        let added: Result<bool, sqlx::Error> = sqlx::query_scalar(ADD)
            .bind(key.id())
            .bind(pads.inner())
            .bind(pads.outer())
            .persistent(false)
            .fetch_one(&mut *connection)
            .await;
        let added = added.map_err(explain)?;
        if let Some(outer) = outer {
            sqlx::query("SELECT pg_catalog.set_config('log_parameter_max_length', $1, false)")
                .bind(outer)
                .persistent(false)
                .execute(connection)
                .await?;
        }
        if !added {
            return Err(Error::new(
                ErrorKind::Installation,
                "the database knows a signing key of this id with another secret: give the new one \
                 another id, or retire the old one first",
            ));
        }
        Ok(())
    }

    /// Takes a key back: contexts that were signed with it are refused from then on, but for
    /// transactions that have begun. `false` if the database knew none of this id.
    ///
    /// # Errors
    ///
    /// As [`add_signing_key`](Self::add_signing_key), those of its secret aside.
    ///
    /// # Cancel safety
    ///
    /// The key is taken back or not. If the future is dropped, the connection has to be given up.
    pub async fn retire_signing_key(
        connection: &mut PgConnection,
        id: &str,
    ) -> Result<bool, Error> {
        let retired = sqlx::query(RETIRE)
            .bind(id)
            .persistent(false)
            .execute(connection)
            .await
            .map_err(explain)?;
        Ok(retired.rows_affected() > 0)
    }

    /// Has the server make itself another key for its seals. Nothing has to be deployed, and
    /// transactions that are under way go on: the key before is good for them until the next time.
    /// So do it twice when the key itself has got out, with a backup for example.
    ///
    /// # Errors
    ///
    /// As [`retire_signing_key`](Self::retire_signing_key).
    ///
    /// # Cancel safety
    ///
    /// As for [`install`](Self::install): all or nothing, and the connection has to be given up.
    pub async fn rotate_server_key(connection: &mut PgConnection) -> Result<(), Error> {
        let text = script::script("", &seal::rotation());
        script::run(connection, text).await.map_err(|error| {
            match error.code().as_deref().is_some_and(is_missing) {
                true => not_installed().with_source(error),
                false => error,
            }
        })
    }
}

/// Bound arguments stay out of the log. Only a superuser may say so.
const KEEP_QUIET: &str = "\
SELECT s.outer_setting FROM (
  SELECT pg_catalog.current_setting('log_parameter_max_length') AS outer_setting
  FROM pg_catalog.pg_roles WHERE rolname = current_user AND rolsuper OFFSET 0) AS s
WHERE pg_catalog.set_config('log_parameter_max_length', '0', false) IS NOT NULL";

const ADD: &str = "\
WITH added AS (
  INSERT INTO tenantry.signing_keys (id, inner_pad, outer_pad) VALUES ($1, $2, $3)
  ON CONFLICT (id) DO NOTHING RETURNING true)
SELECT EXISTS (SELECT FROM added) OR EXISTS (
  SELECT FROM tenantry.signing_keys AS k WHERE k.id = $1 AND k.inner_pad = $2 AND k.outer_pad = $3)";

const RETIRE: &str = "DELETE FROM tenantry.signing_keys WHERE id = $1";

fn explain(error: sqlx::Error) -> Error {
    let code = match &error {
        sqlx::Error::Database(database) => database.code(),
        _ => None,
    };
    match code.as_deref().is_some_and(is_missing) {
        true => not_installed().with_source(error),
        false => error.into(),
    }
}

/// No such table, no such schema.
fn is_missing(code: &str) -> bool {
    matches!(code, "42P01" | "3F000")
}

fn not_installed() -> Error {
    Error::new(
        ErrorKind::Installation,
        "the database has no keys: run tenantry::sql::Installation::install on it with sealed or \
         prepare_seal first",
    )
}
