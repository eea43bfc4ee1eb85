//! The audit log.

use sqlx::PgConnection;

use super::installation::Installation;
use super::script;
use super::tenant_rows::{self, AS_OWNER, Complaint};
use crate::error::Error;

/// What a database needs before a [`Trail`](crate::Trail) can be kept in it; made by
/// [`Installation::trail`].
///
/// It makes, in the schema `tenantry` and for all tenants of the database, wherever their own
/// tables are,
///
/// - the table `tenantry.trail`. The application role sees its tenant's entries, which are numbered
///   from 1 in the order in which they were committed:
///
///   | column | |
///   |---|---|
///   | `tenant`, `number` | which entry |
///   | `at` | when it was recorded, by the server's clock |
///   | `actor` | the user of the context, NULL if there was none |
///   | `action`, `object_kind`, `object_id`, `before`, `after` | what was recorded |
///   | `hash` | SHA-256 of all that, and of the entry before it |
///
/// - the table `tenantry.trail_heads`: each tenant's last number and hash, kept apart so that the
///   newest entry cannot go unnoticed either;
/// - the table `tenantry.trail_pending`, unlogged, for entries whose transaction has not ended;
/// - the functions `record_in_trail(text, text, text, jsonb, jsonb)` and
///   `verify_trail(bigint, bytea)`, which run with the rights of their owner, take the tenant from
///   the context, and refuse to work without one (SQLSTATE TN020).
///
/// The application role can record and read, and do nothing else. The owner of the tables can do
/// what it likes with them, and `verify_trail` notices, unless the owner forges the whole chain
/// behind the change and its head, or the function: against that
/// [`Trail::verify_since`](crate::Trail::verify_since) compares with a head that was kept elsewhere.
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), tenantry::Error> {
/// let text = tenantry::sql::Installation::new("app").trail().sql()?;
/// assert!(text.contains("DEFERRABLE INITIALLY DEFERRED"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "it is only a description: run it with `apply`, or take its `sql`"]
pub struct TrailTables {
    installation: Installation,
}

impl TrailTables {
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
            recording(),
            chaining(),
            verifying(),
            privileges(),
        ];
        Ok(script::script(
            &tenant_rows::declarations(&self.installation),
            &body.concat(),
        ))
    }

    /// Runs the script. Running it again mends functions, the trigger, policies and privileges and
    /// leaves the rows alone.
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

/// A pending entry lives no longer than its transaction, so that its table need not survive a crash.
fn tables() -> String {
    let entry = "
      at timestamptz NOT NULL,
      actor text,
      action text NOT NULL CONSTRAINT trail_action CHECK (octet_length(action) BETWEEN 1 AND 200),
      object_kind text CONSTRAINT trail_object_kind CHECK (octet_length(object_kind) <= 200),
      object_id text CONSTRAINT trail_object_id CHECK (octet_length(object_id) <= 1000),
      before jsonb,
      after jsonb";
    let trail = format!(
        "
      tenant text COLLATE \"C\" NOT NULL,
      number bigint NOT NULL,{entry},
      hash bytea NOT NULL,
      CONSTRAINT trail_key PRIMARY KEY (tenant, number)
    "
    );
    let pending = format!(
        "
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      tenant text COLLATE \"C\" NOT NULL,{entry}
    "
    );
    let heads = "
      tenant text COLLATE \"C\" PRIMARY KEY,
      number bigint NOT NULL,
      hash bytea NOT NULL
    ) WITH (fillfactor = 50";
    let by_object =
        "CREATE INDEX trail_object ON tenantry.trail (tenant, object_kind, object_id, number);";
    [
        tenant_rows::create("TABLE", "trail", &trail, by_object),
        tenant_rows::create("UNLOGGED TABLE", "trail_pending", &pending, ""),
        tenant_rows::create("TABLE", "trail_heads", heads, ""),
        tenant_rows::readable("trail"),
    ]
    .concat()
}

fn recording() -> String {
    format!(
        "  CREATE OR REPLACE FUNCTION tenantry.record_in_trail(
    action text, object_kind text, object_id text, before jsonb, after jsonb) RETURNS void {AS_OWNER}
  DECLARE
    acting constant text := {tenant};
  BEGIN
    IF acting IS NULL THEN
      {no_tenant}
    END IF;
    INSERT INTO tenantry.trail_pending (tenant, at, actor, action, object_kind, object_id, before, after)
      VALUES (acting, clock_timestamp(), {user}, action, object_kind, object_id, before, after);
  END
  $function$;
",
        tenant = tenant_rows::TENANT,
        user = tenant_rows::USER,
        no_tenant = Complaint::NoTenant.raise(),
    )
}

/// At the end of a transaction its entries get their numbers, and only then is the tenant's head
/// locked.
///
/// What is hashed tells NULL from `null`, does not depend on a time zone or on how dates are
/// written, and cannot be read in two ways, because it is JSON.
fn chaining() -> String {
    format!(
        "  CREATE OR REPLACE FUNCTION tenantry.trail_hash(previous bytea, entry tenantry.trail) RETURNS bytea
    LANGUAGE sql STABLE AS $function$
    SELECT pg_catalog.sha256(previous OPERATOR(pg_catalog.||) pg_catalog.convert_to(pg_catalog.jsonb_build_array(
      entry.tenant, entry.number,
      (EXTRACT(epoch FROM entry.at) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8,
      entry.actor, entry.action, entry.object_kind, entry.object_id,
      entry.before::pg_catalog.text, entry.after::pg_catalog.text)::pg_catalog.text, 'UTF8'))
  $function$;
  CREATE OR REPLACE FUNCTION tenantry.chain_trail() RETURNS trigger {AS_OWNER}
  DECLARE
    head tenantry.trail_heads;
    entry tenantry.trail;
  BEGIN
    SELECT * INTO head FROM tenantry.trail_heads AS h WHERE h.tenant = NEW.tenant FOR UPDATE;
    IF NOT FOUND THEN
      INSERT INTO tenantry.trail_heads (tenant, number, hash) VALUES (NEW.tenant, 0, '')
        ON CONFLICT DO NOTHING;
      SELECT * INTO STRICT head FROM tenantry.trail_heads AS h WHERE h.tenant = NEW.tenant FOR UPDATE;
    END IF;
    entry := ROW(NEW.tenant, head.number + 1, NEW.at, NEW.actor, NEW.action, NEW.object_kind,
                 NEW.object_id, NEW.before, NEW.after, NULL);
    entry.hash := tenantry.trail_hash(head.hash, entry);
    INSERT INTO tenantry.trail VALUES (entry.*);
    UPDATE tenantry.trail_heads AS h SET number = entry.number, hash = entry.hash
      WHERE h.tenant = NEW.tenant;
    DELETE FROM tenantry.trail_pending AS p WHERE p.id = NEW.id;
    RETURN NULL;
  END
  $function$;
  -- pg_trigger.tgtype: row 1, insert 4.
  IF NOT EXISTS (SELECT FROM pg_trigger
                 WHERE tgrelid = 'tenantry.trail_pending'::regclass AND tgname = 'tenantry_chain'
                   AND tgfoid = 'tenantry.chain_trail'::regproc AND tgtype = 5 AND tgqual IS NULL
                   AND tginitdeferred AND tgenabled IN ('O', 'A')) THEN
    DROP TRIGGER IF EXISTS tenantry_chain ON tenantry.trail_pending;
    CREATE CONSTRAINT TRIGGER tenantry_chain AFTER INSERT ON tenantry.trail_pending
      DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION tenantry.chain_trail();
  END IF;
"
    )
}

/// STABLE: all of its statements see what the statement that calls it sees, so that nobody who
/// commits meanwhile comes between the entries and their head.
fn verifying() -> String {
    format!(
        "  CREATE OR REPLACE FUNCTION tenantry.verify_trail(since_number bigint, since_hash bytea,
    OUT entries bigint, OUT head_number bigint, OUT head_hash bytea, OUT broken_at bigint)
    STABLE {AS_OWNER}
  DECLARE
    acting constant text := {tenant};
    upto bigint;
  BEGIN
    IF acting IS NULL THEN
      {no_tenant}
    END IF;
    SELECT h.number, h.hash INTO head_number, head_hash
      FROM tenantry.trail_heads AS h WHERE h.tenant = acting;
    head_number := coalesce(head_number, 0);
    head_hash := coalesce(head_hash, '');
    SELECT count(*), min(link.expected) FILTER (WHERE NOT link.holds) INTO entries, broken_at
      FROM (
        SELECT since_number + row_number() OVER chain AS expected,
               t.hash = tenantry.trail_hash(coalesce(lag(t.hash) OVER chain, since_hash), t) AS holds
        FROM tenantry.trail AS t WHERE t.tenant = acting AND t.number > since_number
        WINDOW chain AS (ORDER BY t.number)) AS link;
    upto := since_number + entries;
    IF since_number > 0 AND NOT EXISTS (
        SELECT FROM tenantry.trail AS t
        WHERE t.tenant = acting AND t.number = since_number AND t.hash = since_hash) THEN
      broken_at := since_number;
    ELSIF broken_at IS NOT NULL THEN
      NULL;
    ELSIF upto <> head_number THEN
      broken_at := least(upto, head_number) + 1;
    ELSIF upto > 0 AND NOT EXISTS (
        SELECT FROM tenantry.trail AS t
        WHERE t.tenant = acting AND t.number = upto AND t.hash = head_hash) THEN
      broken_at := upto;
    END IF;
  END
  $function$;
",
        tenant = tenant_rows::TENANT,
        no_tenant = Complaint::NoTenant.raise(),
    )
}

fn privileges() -> String {
    [
        "  REVOKE ALL ON FUNCTION tenantry.trail_hash(bytea, tenantry.trail), tenantry.chain_trail() FROM PUBLIC;
",
        &tenant_rows::callable("record_in_trail", "text, text, text, jsonb, jsonb"),
        &tenant_rows::callable("verify_trail", "bigint, bytea"),
    ]
    .concat()
}
