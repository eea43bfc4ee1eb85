//! The tables of members, roles and permissions.

use sqlx::PgConnection;

use super::installation::Installation;
use super::script::{self, Refusal};
use super::tenant_rows;
use crate::error::Error;
use crate::quote;

/// On this channel a database tells the tenant whose roles are different now, or nothing where
/// those of any tenant may be.
pub(crate) const CHANNEL: &str = "tenantry_authorization";

/// The tables that an [`Authorizer`](crate::Authorizer) reads and
/// [`RoleAdmin`](crate::RoleAdmin) writes; made by [`Installation::authorization`].
///
/// | table of `tenantry` | a row says |
/// |---|---|
/// | `members` | `user_id` is a member of the tenant |
/// | `roles` | there is a `role` |
/// | `role_parents` | `role` has all that `parent` has |
/// | `role_permissions` | `role` grants or denies (`effect`) the `action` on the `resource`, `*` for either being any |
/// | `member_roles` | the member `user_id` has the `role` |
///
/// Each of them has the tenant column of the installation and is under row level security as a
/// [`TenantTable`](super::TenantTable) is. A role that inherits from itself, through however many
/// others, is refused with the constraint `role_parents_acyclic`, also where two transactions build
/// the two halves of the circle at once. Rows go with what they refer to.
///
/// Each change raises the tenant's epoch, a row of `tenantry.authorization_epochs` that nobody can
/// write by hand, and notifies the channel `tenantry_authorization`, both in the transaction of the
/// change. So transactions that change roles of one tenant wait for each other, from their first
/// change to their end; two that changed rows before in a different order may be told of a
/// deadlock, which is worth a retry.
///
/// # Examples
///
/// ```no_run
/// use sqlx::Connection as _;
/// use tenantry::sql::Installation;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut owner = sqlx::PgConnection::connect("postgres://owner@localhost/shop").await?;
/// let installation = Installation::new("app");
/// installation.install(&mut owner).await?;
/// installation.authorization().apply(&mut owner).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "it is only a description: run it with `apply`, or take its `sql`"]
pub struct Authorization {
    installation: Installation,
}

impl Authorization {
    pub(super) fn new(installation: Installation) -> Self {
        Self { installation }
    }

    /// The script as text: one statement, to be run by the role that has run the [`Installation`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`](crate::ErrorKind::InvalidOption) if the application role or the
    /// tenant column cannot be written in SQL.
    pub fn sql(&self) -> Result<String, Error> {
        self.script(LAYOUT)
    }

    /// Runs the script. Running it again mends functions, triggers, policies and privileges, and
    /// leaves the rows alone.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidOption`](crate::ErrorKind::InvalidOption) as for [`sql`](Self::sql);
    /// - [`ErrorKind::Installation`](crate::ErrorKind::Installation) if the database has no
    ///   installation, or a newer release has made its tables. Nothing was changed;
    /// - [`ErrorKind::Database`](crate::ErrorKind::Database) if the server refused a statement.
    ///   Nothing was changed.
    ///
    /// # Cancel safety
    ///
    /// As for [`Installation::install`]: all or nothing, and the connection has to be given up.
    pub async fn apply(&self, connection: &mut PgConnection) -> Result<(), Error> {
        script::run(connection, self.sql()?).await
    }

    fn script(&self, layout: i32) -> Result<String, Error> {
        self.installation.check()?;
        let declarations = format!(
            "  app_role constant text := {};\n{}",
            quote::literal(&self.installation.application_role),
            self.installation
                .column
                .declarations(&self.installation.settings, self.installation.seal),
        );
        // Blocks beside each other, because the names of one are those of the next.
        let block = |body: String| format!("  DECLARE\n{declarations}  BEGIN\n{body}  END;\n");
        let mut body = block([record(layout), tables()].concat());
        for table in TABLES {
            let table = self.installation.table(format!("tenantry.{table}"));
            body.push_str(&table.block()?);
        }
        body.push_str(&block(
            [functions(), triggers(), privileges(&self.installation)].concat(),
        ));
        Ok(script::script("", &body))
    }
}

/// Of these tables, counted apart from that of [`Installation`].
const LAYOUT: i32 = 1;

const TABLES: [&str; 5] = [
    "members",
    "roles",
    "role_parents",
    "role_permissions",
    "member_roles",
];

fn record(layout: i32) -> String {
    format!(
        "  IF to_regclass('tenantry.installation') IS NULL OR to_regprocedure('{tenant}') IS NULL THEN
    {not_installed}
  END IF;
  IF to_regclass('tenantry.authorization') IS NULL THEN
    CREATE TABLE tenantry.authorization (
      only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
      layout integer NOT NULL,
      version text NOT NULL,
      installed_at timestamptz NOT NULL DEFAULT statement_timestamp()
    );
  END IF;
  IF (SELECT a.layout > {layout} FROM tenantry.authorization AS a) THEN
    {newer}
  END IF;
  INSERT INTO tenantry.authorization AS a (layout, version) VALUES ({layout}, {version})
    ON CONFLICT (only_row) DO UPDATE SET
      layout = EXCLUDED.layout, version = EXCLUDED.version, installed_at = EXCLUDED.installed_at
    WHERE (a.layout, a.version) IS DISTINCT FROM (EXCLUDED.layout, EXCLUDED.version);
",
        tenant = tenant_rows::TENANT,
        not_installed = Refusal::NotInstalled.raise(),
        newer = Refusal::NewerLayout.raise(),
        version = quote::literal(env!("CARGO_PKG_VERSION")),
    )
}

/// Users, roles and permissions are compared byte by byte, as the processes do that cache them.
///
/// The mark is what an epoch is known by: two of the same number after a restored backup, or in two
/// copies of a database, have different ones.
fn tables() -> String {
    r#"  IF to_regclass('tenantry.authorization_epochs') IS NULL THEN
    CREATE TABLE tenantry.authorization_epochs (
      tenant text COLLATE "C" PRIMARY KEY,
      epoch bigint NOT NULL DEFAULT 1,
      mark uuid NOT NULL DEFAULT gen_random_uuid(),
      changed_at timestamptz NOT NULL DEFAULT statement_timestamp()
    );
  END IF;
  IF to_regclass('tenantry.members') IS NULL THEN
    EXECUTE format($create$
      CREATE TABLE tenantry.members (
        %1$I %2$s NOT NULL,
        user_id text COLLATE "C" NOT NULL
          CONSTRAINT members_user_id CHECK (octet_length(user_id) BETWEEN 1 AND 255),
        joined_at timestamptz NOT NULL DEFAULT statement_timestamp(),
        PRIMARY KEY (%1$I, user_id)
      )$create$, tenant_column, tenant_type);
  END IF;
  IF to_regclass('tenantry.roles') IS NULL THEN
    EXECUTE format($create$
      CREATE TABLE tenantry.roles (
        %1$I %2$s NOT NULL,
        role text COLLATE "C" NOT NULL
          CONSTRAINT roles_role CHECK (octet_length(role) BETWEEN 1 AND 255),
        PRIMARY KEY (%1$I, role)
      )$create$, tenant_column, tenant_type);
  END IF;
  IF to_regclass('tenantry.role_parents') IS NULL THEN
    EXECUTE format($create$
      CREATE TABLE tenantry.role_parents (
        %1$I %2$s NOT NULL,
        role text COLLATE "C" NOT NULL,
        parent text COLLATE "C" NOT NULL,
        PRIMARY KEY (%1$I, role, parent),
        CONSTRAINT role_parents_acyclic CHECK (role <> parent),
        CONSTRAINT role_parents_role FOREIGN KEY (%1$I, role)
          REFERENCES tenantry.roles ON DELETE CASCADE,
        CONSTRAINT role_parents_parent FOREIGN KEY (%1$I, parent)
          REFERENCES tenantry.roles ON DELETE CASCADE
      )$create$, tenant_column, tenant_type);
    EXECUTE format('CREATE INDEX ON tenantry.role_parents (%I, parent)', tenant_column);
  END IF;
  IF to_regclass('tenantry.role_permissions') IS NULL THEN
    EXECUTE format($create$
      CREATE TABLE tenantry.role_permissions (
        %1$I %2$s NOT NULL,
        role text COLLATE "C" NOT NULL,
        resource text COLLATE "C" NOT NULL
          CONSTRAINT role_permissions_resource CHECK (resource ~ '^(\*|[A-Za-z0-9][A-Za-z0-9._-]{0,62})$'),
        action text COLLATE "C" NOT NULL
          CONSTRAINT role_permissions_action CHECK (action ~ '^(\*|[A-Za-z0-9][A-Za-z0-9._-]{0,62})$'),
        effect text NOT NULL
          CONSTRAINT role_permissions_effect CHECK (effect IN ('grant', 'deny')),
        PRIMARY KEY (%1$I, role, resource, action),
        CONSTRAINT role_permissions_role FOREIGN KEY (%1$I, role)
          REFERENCES tenantry.roles ON DELETE CASCADE
      )$create$, tenant_column, tenant_type);
  END IF;
  IF to_regclass('tenantry.member_roles') IS NULL THEN
    EXECUTE format($create$
      CREATE TABLE tenantry.member_roles (
        %1$I %2$s NOT NULL,
        user_id text COLLATE "C" NOT NULL,
        role text COLLATE "C" NOT NULL,
        PRIMARY KEY (%1$I, user_id, role),
        CONSTRAINT member_roles_member FOREIGN KEY (%1$I, user_id)
          REFERENCES tenantry.members ON DELETE CASCADE,
        CONSTRAINT member_roles_role FOREIGN KEY (%1$I, role)
          REFERENCES tenantry.roles ON DELETE CASCADE
      )$create$, tenant_column, tenant_type);
    EXECUTE format('CREATE INDEX ON tenantry.member_roles (%I, role)', tenant_column);
  END IF;
"#
    .to_owned()
}

/// The first is its owner's, who alone may write epochs. The second is not: under FORCE the owner
/// sees no rows, and a circle that is not seen is not refused. It looks after the first has taken
/// the row of the tenant's epoch, so that of two halves of a circle the second one is looked at
/// when the first is there.
///
/// The column's name is part of the bodies, so a body is a literal: in dollar quotes a name could
/// end it.
fn functions() -> String {
    format!(
        r#"  EXECUTE format('
  CREATE OR REPLACE FUNCTION tenantry.authorization_changed() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS %L', format($function$
  DECLARE
    tenants text[];
  BEGIN
    IF TG_OP = 'TRUNCATE' THEN
      UPDATE tenantry.authorization_epochs
        SET epoch = epoch + 1, mark = gen_random_uuid(), changed_at = statement_timestamp();
      PERFORM pg_notify('{CHANNEL}', '');
      RETURN NULL;
    ELSIF TG_OP = 'INSERT' THEN
      SELECT array_agg(DISTINCT a.%1$I::text) INTO tenants FROM added AS a;
    ELSIF TG_OP = 'DELETE' THEN
      SELECT array_agg(DISTINCT r.%1$I::text) INTO tenants FROM removed AS r;
    ELSE
      SELECT array_agg(b.id) INTO tenants FROM
        (SELECT a.%1$I::text FROM added AS a UNION SELECT r.%1$I::text FROM removed AS r) AS b (id);
    END IF;
    INSERT INTO tenantry.authorization_epochs AS e (tenant)
      SELECT t.id FROM unnest(tenants) AS t (id) ORDER BY t.id COLLATE "C"
      ON CONFLICT (tenant) DO UPDATE
        SET epoch = e.epoch + 1, mark = gen_random_uuid(), changed_at = statement_timestamp();
    PERFORM pg_notify('{CHANNEL}', t.id) FROM unnest(tenants) AS t (id) WHERE octet_length(t.id) <= 63;
    RETURN NULL;
  END
  $function$, tenant_column));
  EXECUTE format('
  CREATE OR REPLACE FUNCTION tenantry.role_parents_acyclic() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS %L', format($function$
  BEGIN
    IF EXISTS (
      WITH RECURSIVE above (tenant, role, parent) AS (
        SELECT a.%1$I, a.role, a.parent FROM added AS a
        UNION
        SELECT b.tenant, b.role, p.parent FROM above AS b
          JOIN tenantry.role_parents AS p ON p.%1$I = b.tenant AND p.role = b.parent)
      SELECT FROM above AS b WHERE b.role = b.parent) THEN
      RAISE EXCEPTION USING ERRCODE = 'check_violation',
        MESSAGE = 'a role would inherit from itself',
        SCHEMA = 'tenantry', TABLE = 'role_parents', CONSTRAINT = 'role_parents_acyclic';
    END IF;
    RETURN NULL;
  END
  $function$, tenant_column));
"#
    )
}

/// Triggers of one event are carried out in the order of their names.
fn triggers() -> String {
    let trigger = |table: &str, name: &str, event: &str, referencing: &str, function: &str| {
        format!(
            "  DROP TRIGGER IF EXISTS {name} ON tenantry.{table};
  CREATE TRIGGER {name} AFTER {event} ON tenantry.{table} {referencing}
    FOR EACH STATEMENT EXECUTE FUNCTION tenantry.{function}();
"
        )
    };
    let mut out = String::new();
    for table in TABLES {
        for (event, referencing) in [
            ("INSERT", "REFERENCING NEW TABLE AS added"),
            (
                "UPDATE",
                "REFERENCING OLD TABLE AS removed NEW TABLE AS added",
            ),
            ("DELETE", "REFERENCING OLD TABLE AS removed"),
            ("TRUNCATE", ""),
        ] {
            let name = format!("tenantry_1_{}", event.to_lowercase());
            out += &trigger(table, &name, event, referencing, "authorization_changed");
        }
    }
    for event in ["INSERT", "UPDATE"] {
        let name = format!("tenantry_2_acyclic_{}", event.to_lowercase());
        let referencing = "REFERENCING NEW TABLE AS added";
        out += &trigger(
            "role_parents",
            &name,
            event,
            referencing,
            "role_parents_acyclic",
        );
    }
    out
}

/// The epochs are under policies that do not hold for the owner, as who the trigger writes them.
///
/// The context is converted and back, as the tenants of members are: 007 is 7 as a number.
fn privileges(installation: &Installation) -> String {
    let tenant = format!(
        "({}{})::text",
        tenant_rows::TENANT,
        installation.column.kind.conversion()
    );
    format!(
        "  REVOKE ALL ON FUNCTION tenantry.authorization_changed(), tenantry.role_parents_acyclic() FROM PUBLIC;
  EXECUTE format('REVOKE ALL ON tenantry.authorization, tenantry.authorization_epochs FROM PUBLIC, %I', app_role);
  EXECUTE format('GRANT SELECT ON tenantry.authorization, tenantry.authorization_epochs TO %I', app_role);
  ALTER TABLE tenantry.authorization_epochs ENABLE ROW LEVEL SECURITY;
  DROP POLICY IF EXISTS tenantry_tenant ON tenantry.authorization_epochs;
  EXECUTE format('CREATE POLICY tenantry_tenant ON tenantry.authorization_epochs FOR SELECT TO %I '
    'USING (tenant = (SELECT {tenant}))', app_role);
"
    )
}
