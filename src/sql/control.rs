//! The table of tenants in a control database.

use sqlx::PgConnection;

use super::installation;
use super::script::{self, Refusal};
use crate::error::Error;
use crate::quote;

/// On this channel the control database tells the id of a tenant whose row is different now, or
/// nothing where any may be.
pub(crate) const CHANNEL: &str = "tenantry_tenants";

/// The tables of a control database, from which a
/// [`PostgresDirectory`](crate::PostgresDirectory) reads where each tenant lives.
///
/// It makes the table `tenantry.tenants`, a row for each tenant:
///
/// | column | |
/// |---|---|
/// | `id` | as [`TenantId`](crate::TenantId) has it, checked by the table |
/// | `placement` | `shared`, `database` or `schema`: see [`Placement`](crate::Placement) |
/// | `server` | a *name*. What it means, a host, a role and a reference to a password, is said to the directory of each process: no credential is in the table |
/// | `database` | the name of the database there |
/// | `schema` | the name of the schema, for the placement `schema` and no other |
/// | `state` | `active` unless said otherwise, `suspended`, `moving` or `deleted` |
/// | `epoch` | raised by a trigger whenever the tenant is placed elsewhere; it never falls |
/// | `settings` | `jsonb` of your own, which nothing here reads |
/// | `created_at`, `changed_at` | kept by the table |
///
/// A trigger notifies the channel `tenantry_tenants` of each change when it is committed. The
/// reader role may SELECT and nothing else; grant more to whoever manages tenants, as a role of
/// its own.
///
/// The control database may be one that tenants live in, with an
/// [`Installation`](super::Installation) beside it, in either order.
///
/// # Examples
///
/// ```no_run
/// use sqlx::{Connection as _, Executor as _};
/// use tenantry::sql::ControlTables;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut owner = sqlx::PgConnection::connect("postgres://owner@localhost/control").await?;
/// ControlTables::new("app").install(&mut owner).await?;
/// owner.execute(
///     "INSERT INTO tenantry.tenants (id, placement, server, database) \
///      VALUES ('globex', 'database', 'main', 'shop_globex')",
/// ).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "it is only a description: run it with `install`, or take its `sql`"]
pub struct ControlTables {
    reader_role: String,
}

impl ControlTables {
    /// The tables, and the role that reads them: that of the directories. It must exist before the
    /// script runs, and not be the one that runs it.
    pub fn new(reader_role: impl Into<String>) -> Self {
        Self {
            reader_role: reader_role.into(),
        }
    }

    /// The script as text: one statement, to be run by the owner of the database.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`](crate::ErrorKind::InvalidOption) if the role cannot be written
    /// in SQL.
    pub fn sql(&self) -> Result<String, Error> {
        self.script(LAYOUT)
    }

    /// Runs the script as the role of `connection`, which must own the database or be a superuser.
    /// Running it again mends functions, triggers and privileges and leaves the rows alone.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidOption`](crate::ErrorKind::InvalidOption) as for [`sql`](Self::sql);
    /// - [`ErrorKind::Installation`](crate::ErrorKind::Installation) if the reader role does not
    ///   exist or a newer release has installed its tables. Nothing was changed;
    /// - [`ErrorKind::Database`](crate::ErrorKind::Database) if the server refused a statement, for
    ///   want of a privilege for example. Nothing was changed.
    ///
    /// # Cancel safety
    ///
    /// As for [`Installation::install`](super::Installation::install): all or nothing, and the
    /// connection has to be given up.
    pub async fn install(&self, connection: &mut PgConnection) -> Result<(), Error> {
        script::run(connection, self.sql()?).await
    }

    fn script(&self, layout: i32) -> Result<String, Error> {
        installation::check_role(&self.reader_role)?;
        let declarations = format!(
            "  reader constant text := {};\n",
            quote::literal(&self.reader_role)
        );
        let body = [tables(layout), functions(), triggers(), privileges()];
        Ok(script::script(&declarations, &body.concat()))
    }
}

/// Of these tables, counted apart from that of [`Installation`](super::Installation).
const LAYOUT: i32 = 1;

fn tables(layout: i32) -> String {
    format!(
        "  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = reader) THEN
    {reader_missing}
  END IF;
  IF to_regnamespace('tenantry') IS NULL THEN
    CREATE SCHEMA tenantry;
  END IF;
  IF to_regclass('tenantry.control') IS NULL THEN
    CREATE TABLE tenantry.control (
      only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
      layout integer NOT NULL,
      version text NOT NULL,
      installed_at timestamptz NOT NULL DEFAULT statement_timestamp()
    );
  END IF;
  IF (SELECT c.layout > {layout} FROM tenantry.control AS c) THEN
    {newer}
  END IF;
  INSERT INTO tenantry.control AS c (layout, version) VALUES ({layout}, {version})
    ON CONFLICT (only_row) DO UPDATE SET
      layout = EXCLUDED.layout, version = EXCLUDED.version, installed_at = EXCLUDED.installed_at
    WHERE (c.layout, c.version) IS DISTINCT FROM (EXCLUDED.layout, EXCLUDED.version);
  IF to_regclass('tenantry.tenants') IS NULL THEN
    CREATE TABLE tenantry.tenants (
      id text COLLATE \"C\" PRIMARY KEY
        CONSTRAINT tenants_id CHECK (id ~ '^[A-Za-z0-9][A-Za-z0-9._-]{{0,62}}$')
        -- In either case a UUID names one tenant.
        CONSTRAINT tenants_uuid CHECK (id = lower(id)
          OR id !~* '^[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$'),
      placement text NOT NULL
        CONSTRAINT tenants_placement CHECK (placement IN ('shared', 'database', 'schema')),
      server text NOT NULL
        CONSTRAINT tenants_server CHECK (server <> ''),
      database text NOT NULL
        CONSTRAINT tenants_database CHECK (octet_length(database) BETWEEN 1 AND 63),
      schema text
        CONSTRAINT tenants_schema CHECK (octet_length(schema) BETWEEN 1 AND 63),
      state text NOT NULL DEFAULT 'active'
        CONSTRAINT tenants_state CHECK (state IN ('active', 'suspended', 'moving', 'deleted')),
      epoch bigint NOT NULL DEFAULT 0
        CONSTRAINT tenants_epoch CHECK (epoch >= 0),
      settings jsonb NOT NULL DEFAULT '{{}}',
      created_at timestamptz NOT NULL DEFAULT statement_timestamp(),
      changed_at timestamptz NOT NULL DEFAULT statement_timestamp(),
      CONSTRAINT tenants_schema_where_placed CHECK ((placement = 'schema') = (schema IS NOT NULL))
    );
  END IF;
",
        reader_missing = Refusal::ReaderMissing.raise(),
        newer = Refusal::NewerLayout.raise(),
        version = quote::literal(env!("CARGO_PKG_VERSION")),
    )
}

fn functions() -> String {
    // A payload has less than 8000 bytes or the change itself fails; an id has, while its CHECK is
    // there.
    format!(
        "  CREATE OR REPLACE FUNCTION tenantry.tenant_changes() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
  BEGIN
    NEW.epoch := greatest(NEW.epoch, OLD.epoch);
    IF (NEW.placement, NEW.server, NEW.database, NEW.schema)
       IS DISTINCT FROM (OLD.placement, OLD.server, OLD.database, OLD.schema) THEN
      NEW.epoch := greatest(NEW.epoch, OLD.epoch + 1);
    END IF;
    NEW.changed_at := statement_timestamp();
    RETURN NEW;
  END
  $function$;
  CREATE OR REPLACE FUNCTION tenantry.tenant_changed() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
  DECLARE
    payload text := '';
  BEGIN
    IF TG_OP = 'INSERT' OR TG_OP = 'UPDATE' AND NEW.id = OLD.id THEN
      payload := NEW.id;
    ELSIF TG_OP = 'DELETE' THEN
      payload := OLD.id;
    END IF;
    PERFORM pg_notify('{CHANNEL}', CASE WHEN octet_length(payload) <= 63 THEN payload ELSE '' END);
    RETURN NULL;
  END
  $function$;
"
    )
}

/// A trigger is replaced only where it is not as it should be, because that locks the table.
fn triggers() -> String {
    let triggers = [
        (
            "tenantry_1_changes",
            "BEFORE UPDATE",
            "FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION tenantry.tenant_changes()",
            // pg_trigger.tgtype: row 1, before 2, insert 4, delete 8, update 16, truncate 32.
            1 + 2 + 16,
        ),
        (
            "tenantry_2_update",
            "AFTER UPDATE",
            "FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION tenantry.tenant_changed()",
            1 + 16,
        ),
        (
            "tenantry_3_insert_delete",
            "AFTER INSERT OR DELETE",
            "FOR EACH ROW EXECUTE FUNCTION tenantry.tenant_changed()",
            1 + 4 + 8,
        ),
        (
            "tenantry_4_truncate",
            "AFTER TRUNCATE",
            "FOR EACH STATEMENT EXECUTE FUNCTION tenantry.tenant_changed()",
            32,
        ),
    ];
    let replace = triggers.map(|(name, when, what, kind)| {
        format!(
            "  IF NOT EXISTS (SELECT FROM pg_trigger
                 WHERE tgrelid = 'tenantry.tenants'::regclass AND tgname = '{name}'
                   AND tgtype = {kind} AND tgenabled IN ('O', 'A')) THEN
    DROP TRIGGER IF EXISTS {name} ON tenantry.tenants;
    CREATE TRIGGER {name} {when} ON tenantry.tenants {what};
  END IF;
"
        )
    });
    replace.concat()
}

fn privileges() -> String {
    "  REVOKE ALL ON FUNCTION tenantry.tenant_changes(), tenantry.tenant_changed() FROM PUBLIC;
  EXECUTE format('REVOKE ALL ON SCHEMA tenantry FROM PUBLIC, %I', reader);
  EXECUTE format('REVOKE ALL ON tenantry.control, tenantry.tenants FROM PUBLIC, %I', reader);
  EXECUTE format('GRANT USAGE ON SCHEMA tenantry TO %I', reader);
  EXECUTE format('GRANT SELECT ON tenantry.control, tenantry.tenants TO %I', reader);
"
    .to_owned()
}
