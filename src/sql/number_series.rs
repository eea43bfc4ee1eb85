//! The counters of number series.

use sqlx::PgConnection;

use super::installation::Installation;
use super::script;
use super::tenant_rows::{self, AS_OWNER, Complaint};
use crate::error::Error;

/// What a database needs before a [`NumberSeries`](crate::NumberSeries) or a
/// [`UniqueSeries`](crate::UniqueSeries) can be used in it; made by
/// [`Installation::number_series`].
///
/// It makes, in the schema `tenantry` and for all tenants of the database, wherever their own
/// tables are,
///
/// - the table `tenantry.number_series`, a row for each tenant, series and period with the `first`
///   and the `last` number. The application role sees its tenant's rows;
/// - the table `tenantry.void_numbers`: which numbers are void, why, since when, by whom, and when
///   they were used again. The application role sees its tenant's rows;
/// - the table `tenantry.unique_series`, which it does not see;
/// - the functions that write them: `next_number(jsonb)` gives the number as text,
///   `take_number(jsonb)` as a row of `value`, `period` and `number`; the crate calls
///   `void_number`, `reuse_number` and `take_block`. The argument is a bound `NumberSeries`.
///
/// The functions run with the rights of their owner, take the tenant from the context and nowhere
/// else, and refuse to work without one (SQLSTATE TN020). The application role can write the
/// tables in no other way.
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), tenantry::Error> {
/// let text = tenantry::sql::Installation::new("app").number_series().sql()?;
/// assert!(text.contains("SECURITY DEFINER"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "it is only a description: run it with `apply`, or take its `sql`"]
pub struct NumberSeriesTables {
    installation: Installation,
}

impl NumberSeriesTables {
    pub(super) fn new(installation: Installation) -> Self {
        Self { installation }
    }

    /// The script as text: one statement, to be run by a role that has run the [`Installation`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`](crate::ErrorKind::InvalidOption) if the application role cannot
    /// be written in SQL.
    pub fn sql(&self) -> Result<String, Error> {
        self.installation.check()?;
        let body = [
            tenant_rows::check(),
            tables(),
            taking(),
            voiding(),
            blocks(),
            tenant_rows::callable("take_number", "jsonb"),
            tenant_rows::callable("next_number", "jsonb"),
            tenant_rows::callable("void_number", "text, text, bigint, text, text"),
            tenant_rows::callable("reuse_number", "jsonb"),
            tenant_rows::callable("take_block", "text, integer"),
        ];
        Ok(script::script(
            &tenant_rows::declarations(&self.installation),
            &body.concat(),
        ))
    }

    /// Runs the script. Running it again mends functions, policies and privileges and leaves the
    /// rows alone.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidOption`](crate::ErrorKind::InvalidOption) as for [`sql`](Self::sql);
    /// - [`ErrorKind::Installation`](crate::ErrorKind::Installation) if the database has no
    ///   installation, or the application role does not exist. Nothing was changed;
    /// - [`ErrorKind::Database`](crate::ErrorKind::Database) if the server refused a statement.
    ///   Nothing was changed.
    ///
    /// # Cancel safety
    ///
    /// As for [`Installation::install`]: all or nothing, and the connection has to be given up.
    pub async fn apply(&self, connection: &mut PgConnection) -> Result<(), Error> {
        script::run(connection, self.sql()?).await
    }
}

/// A counter is updated in place over and over, which half-empty pages leave room for.
fn tables() -> String {
    let counters = "
      tenant text COLLATE \"C\" NOT NULL,
      series text COLLATE \"C\" NOT NULL,
      period text COLLATE \"C\" NOT NULL,
      first bigint NOT NULL,
      last bigint NOT NULL,
      CONSTRAINT number_series_key PRIMARY KEY (tenant, series, period)
    ) WITH (fillfactor = 50";
    let void = "
      tenant text COLLATE \"C\" NOT NULL,
      series text COLLATE \"C\" NOT NULL,
      period text COLLATE \"C\" NOT NULL,
      value bigint NOT NULL,
      times integer NOT NULL,
      number text NOT NULL,
      reason text NOT NULL,
      voided_at timestamptz NOT NULL,
      voided_by text,
      reused_at timestamptz,
      reused_by text,
      CONSTRAINT void_numbers_key PRIMARY KEY (tenant, series, period, value, times)
    ";
    let unique = "
      tenant text COLLATE \"C\" NOT NULL,
      series text COLLATE \"C\" NOT NULL,
      last bigint NOT NULL,
      CONSTRAINT unique_series_key PRIMARY KEY (tenant, series)
    ) WITH (fillfactor = 50";
    [
        tenant_rows::create("TABLE", "number_series", counters, ""),
        tenant_rows::create("TABLE", "void_numbers", void, ""),
        tenant_rows::create("TABLE", "unique_series", unique, ""),
        tenant_rows::readable("number_series"),
        tenant_rows::readable("void_numbers"),
    ]
    .concat()
}

/// The month that a definition names, or the one in which the transaction began.
const MONTH: &str = "coalesce(definition ->> 'month', to_char(
      transaction_timestamp() AT TIME ZONE coalesce(definition ->> 'zone', 'UTC'), 'YYYY-MM'))";

/// The period of a definition, in a month.
const PERIOD: &str = "CASE definition ->> 'reset'
      WHEN 'year' THEN left(month, 4) WHEN 'month' THEN month ELSE '' END";

/// The row is locked by the UPDATE, or by the index entry of the INSERT: one of those who come
/// first makes it, and the others wait for that one's end. The time to wait is put back, because
/// the rest of the transaction has its own; after an error the server does that.
fn taking() -> String {
    format!(
        "  CREATE OR REPLACE FUNCTION tenantry.take_number(
    definition jsonb, OUT value bigint, OUT period text, OUT number text) {AS_OWNER}
  #variable_conflict use_column
  DECLARE
    acting constant text := {tenant};
    name constant text := definition ->> 'series';
    month constant text := {MONTH};
    this_period constant text := {PERIOD};
    prefix constant text := coalesce(definition ->> 'prefix', '');
    start constant bigint := coalesce(definition ->> 'start', '1');
    width constant integer := coalesce(definition ->> 'width', '1');
    lock_wait constant interval := coalesce(definition ->> 'wait', '3s');
    outer_wait constant text := current_setting('lock_timeout');
    is_longer constant boolean := outer_wait = '0' OR outer_wait::interval > lock_wait;
  BEGIN
    IF acting IS NULL THEN
      {no_tenant}
    END IF;
    IF NOT coalesce(name ~ '^[A-Za-z0-9][A-Za-z0-9._-]*$' AND length(name) <= 63
        AND month ~ '^[0-9]{{4}}-(0[1-9]|1[0-2])$'
        AND coalesce(definition ->> 'reset', 'never') IN ('never', 'year', 'month')
        AND (prefix = '' OR prefix ~ '^[A-Za-z0-9](|[A-Za-z0-9._/-]*[A-Za-z0-9])$') AND length(prefix) <= 32
        AND start >= 0 AND width BETWEEN 1 AND 18 AND lock_wait >= '1ms', false) THEN
      {definition}
    END IF;
    IF is_longer THEN
      PERFORM set_config('lock_timeout', (ceil(extract(epoch FROM lock_wait) * 1000))::text, true);
    END IF;
    UPDATE tenantry.number_series AS s SET last = s.last + 1
      WHERE s.tenant = acting AND s.series = name AND s.period = this_period
      RETURNING s.last INTO value;
    IF NOT FOUND THEN
      IF EXISTS (SELECT FROM tenantry.number_series AS s WHERE s.tenant = acting AND s.series = name
                 AND length(s.period) <> length(this_period)) THEN
        {other_reset}
      END IF;
      INSERT INTO tenantry.number_series AS s (tenant, series, period, first, last)
        VALUES (acting, name, this_period, start, start)
        ON CONFLICT ON CONSTRAINT number_series_key DO UPDATE SET last = s.last + 1
        RETURNING s.last INTO value;
    END IF;
    IF is_longer THEN
      PERFORM set_config('lock_timeout', outer_wait, true);
    END IF;
    period := this_period;
    number := concat_ws('-', nullif(prefix, ''), nullif(this_period, ''),
      lpad(value::text, greatest(width, length(value::text)), '0'));
  END
  $function$;
  CREATE OR REPLACE FUNCTION tenantry.next_number(definition jsonb) RETURNS text
    LANGUAGE plpgsql AS $function$
  BEGIN
    RETURN (tenantry.take_number(definition)).number;
  END
  $function$;
",
        tenant = tenant_rows::TENANT,
        no_tenant = Complaint::NoTenant.raise(),
        definition = Complaint::Definition.raise(),
        other_reset = Complaint::OtherReset.raise(),
    )
}

/// Of two who void a number at once the second one finds the first one's row. Of two who reuse
/// one, the second passes over what the first has in hand.
fn voiding() -> String {
    format!(
        "  CREATE OR REPLACE FUNCTION tenantry.void_number(
    of_series text, of_period text, of_value bigint, as_text text, because text) RETURNS void {AS_OWNER}
  DECLARE
    acting constant text := {tenant};
  BEGIN
    IF acting IS NULL THEN
      {no_tenant}
    END IF;
    IF EXISTS (SELECT FROM tenantry.number_series AS s
               WHERE s.tenant = acting AND s.series = of_series AND s.period = of_period
                 AND of_value BETWEEN s.first AND s.last)
       AND NOT EXISTS (SELECT FROM tenantry.void_numbers AS v
               WHERE v.tenant = acting AND v.series = of_series AND v.period = of_period
                 AND v.value = of_value AND v.reused_at IS NULL) THEN
      INSERT INTO tenantry.void_numbers
          (tenant, series, period, value, times, number, reason, voided_at, voided_by)
        SELECT acting, of_series, of_period, of_value, count(*) + 1, as_text, because,
               clock_timestamp(), {user}
        FROM tenantry.void_numbers AS v
        WHERE v.tenant = acting AND v.series = of_series AND v.period = of_period AND v.value = of_value
        ON CONFLICT DO NOTHING;
      IF FOUND THEN
        RETURN;
      END IF;
    END IF;
    {no_such_number}
  END
  $function$;
  CREATE OR REPLACE FUNCTION tenantry.reuse_number(
    definition jsonb, OUT value bigint, OUT period text, OUT number text) {AS_OWNER}
  #variable_conflict use_column
  DECLARE
    acting constant text := {tenant};
    name constant text := definition ->> 'series';
    month constant text := {MONTH};
    this_period constant text := {PERIOD};
  BEGIN
    IF acting IS NULL THEN
      {no_tenant}
    END IF;
    UPDATE tenantry.void_numbers AS v SET reused_at = clock_timestamp(), reused_by = {user}
      WHERE (v.value, v.times) = (
        SELECT w.value, w.times FROM tenantry.void_numbers AS w
        WHERE w.tenant = acting AND w.series = name AND w.period = this_period AND w.reused_at IS NULL
        ORDER BY w.value LIMIT 1 FOR UPDATE SKIP LOCKED)
      AND v.tenant = acting AND v.series = name AND v.period = this_period
      RETURNING v.value, v.period, v.number INTO value, period, number;
  END
  $function$;
",
        tenant = tenant_rows::TENANT,
        user = tenant_rows::USER,
        no_tenant = Complaint::NoTenant.raise(),
        no_such_number = Complaint::NoSuchNumber.raise(),
    )
}

fn blocks() -> String {
    format!(
        "  CREATE OR REPLACE FUNCTION tenantry.take_block(of_series text, size integer)
    RETURNS bigint {AS_OWNER}
  DECLARE
    acting constant text := {tenant};
    upto bigint;
  BEGIN
    IF acting IS NULL THEN
      {no_tenant}
    END IF;
    IF NOT coalesce(of_series ~ '^[A-Za-z0-9][A-Za-z0-9._-]*$' AND length(of_series) <= 63
                    AND size BETWEEN 1 AND 100000, false) THEN
      {definition}
    END IF;
    INSERT INTO tenantry.unique_series AS s (tenant, series, last) VALUES (acting, of_series, size)
      ON CONFLICT ON CONSTRAINT unique_series_key DO UPDATE SET last = s.last + size
      RETURNING s.last INTO upto;
    RETURN upto - size + 1;
  END
  $function$;
",
        tenant = tenant_rows::TENANT,
        no_tenant = Complaint::NoTenant.raise(),
        definition = Complaint::Definition.raise(),
    )
}
