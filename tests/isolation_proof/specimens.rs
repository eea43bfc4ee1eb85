//! Policies of one's own: what is found in them, and what is not.

use sqlx::postgres::PgConnectOptions;
use tenantry::testing::isolation::{Isolation, IsolationReport, prove_isolation};
use tenantry::{Error, ErrorKind};

use crate::world::{self, name, pool, run, server};

/// A schema as somebody might write it who does not use what tenantry generates: `@app` and
/// `@owner` stand for the names of its roles.
const SCHEMA: &str = "
    CREATE SCHEMA shop AUTHORIZATION @owner;
    GRANT USAGE ON SCHEMA shop TO @app;
    SET ROLE @owner;
    CREATE FUNCTION shop.tenant() RETURNS int LANGUAGE sql STABLE
        RETURN nullif(pg_catalog.current_setting('app.tenant_id', true), '')::int;
    CREATE TABLE shop.tenants (id int PRIMARY KEY, name text NOT NULL);
    CREATE TABLE shop.projects (
        tenant_id int NOT NULL REFERENCES shop.tenants,
        id bigint GENERATED ALWAYS AS IDENTITY, name text NOT NULL,
        visible_to text, public boolean NOT NULL DEFAULT false, PRIMARY KEY (tenant_id, id));
    CREATE TABLE shop.notes (tenant_id text NOT NULL CHECK (tenant_id <> ''), id serial, body text);
    CREATE TABLE shop.countries (code text);
    INSERT INTO shop.tenants VALUES (1, 'one'), (2, 'two');
    INSERT INTO shop.projects (tenant_id, name) VALUES (1, 'a'), (2, 'b');
    ALTER TABLE shop.tenants ENABLE ROW LEVEL SECURITY;
    ALTER TABLE shop.tenants FORCE ROW LEVEL SECURITY;
    ALTER TABLE shop.projects ENABLE ROW LEVEL SECURITY;
    ALTER TABLE shop.projects FORCE ROW LEVEL SECURITY;
    ALTER TABLE shop.notes ENABLE ROW LEVEL SECURITY;
    ALTER TABLE shop.notes FORCE ROW LEVEL SECURITY;
    CREATE POLICY own ON shop.tenants USING (id = (SELECT shop.tenant()));
    CREATE POLICY own ON shop.projects USING (tenant_id = (SELECT shop.tenant()));
    CREATE POLICY own ON shop.notes
        USING (tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')));
    GRANT SELECT ON shop.tenants, shop.countries TO @app;
    GRANT SELECT, INSERT, UPDATE, DELETE ON shop.projects, shop.notes TO @app;
    RESET ROLE;";

struct Shop {
    /// As the superuser.
    admin: PgConnectOptions,
    app: String,
    owner: String,
}

impl Shop {
    async fn new() -> Self {
        let shop = Self {
            admin: world::database("shop").await,
            app: name("app"),
            owner: name("owner"),
        };
        shop.run("CREATE ROLE @app LOGIN; CREATE ROLE @owner").await;
        shop.run(SCHEMA).await;
        shop
    }

    async fn run(&self, sql: &str) {
        run(&self.admin, &self.fill(sql)).await;
    }

    fn fill(&self, sql: &str) -> String {
        sql.replace("@app", &self.app)
            .replace("@owner", &self.owner)
    }

    fn isolation(&self) -> Isolation {
        Isolation::of(&self.app)
            .tenant_column_of("shop.tenants", "id")
            .global_table("shop.countries")
    }

    /// Which rules fire when this has been done to it. Then all is made anew.
    async fn after(&self, sql: &str, isolation: Isolation) -> (Vec<&'static str>, String) {
        let report = self.proven(sql, isolation).await.expect("a report");
        let rules = report.findings().map(|finding| finding.rule().id());
        (rules.collect(), report.to_string())
    }

    async fn proven(&self, sql: &str, isolation: Isolation) -> Result<IsolationReport, Error> {
        self.run(sql).await;
        let pool = pool(&self.admin);
        let report = prove_isolation(&pool, isolation).await;
        pool.close().await;
        self.run(BACK).await;
        self.run(SCHEMA).await;
        report
    }
}

const BACK: &str = "
    DROP SCHEMA shop CASCADE; DROP SCHEMA IF EXISTS inner_room CASCADE;
    ALTER ROLE @app NOSUPERUSER NOBYPASSRLS NOREPLICATION INHERIT;
    REVOKE @owner, pg_read_server_files, pg_read_all_data FROM @app;
    DROP ROLE IF EXISTS @app_r; DROP ROLE IF EXISTS @app_g;
    DO $$ BEGIN EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database()); END $$;";

/// What is done to it, and what has to be found.
const HOLES: &[(&str, &str)] = &[
    // The role.
    ("role-superuser", "ALTER ROLE @app SUPERUSER"),
    ("role-bypasses-rls", "ALTER ROLE @app BYPASSRLS"),
    ("role-replication", "ALTER ROLE @app REPLICATION"),
    (
        "role-bypasses-rls",
        "CREATE ROLE @app_r BYPASSRLS; ALTER ROLE @app NOINHERIT; GRANT @app_r TO @app",
    ),
    ("role-server-files", "GRANT pg_read_server_files TO @app"),
    ("role-owns-table", "ALTER TABLE shop.projects OWNER TO @app"),
    ("role-owns-table", "GRANT @owner TO @app"),
    (
        "privilege-truncate",
        "GRANT TRUNCATE ON shop.projects TO @app",
    ),
    (
        "privilege-trigger",
        "GRANT TRIGGER ON shop.projects TO @app",
    ),
    (
        "privilege-public",
        "GRANT SELECT ON shop.projects TO PUBLIC",
    ),
    (
        "privilege-global-write",
        "GRANT UPDATE (code) ON shop.countries TO @app",
    ),
    (
        "privilege-temporary",
        "DO $$ BEGIN EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO PUBLIC', current_database()); END $$",
    ),
    // Tables.
    (
        "table-rls-disabled",
        "ALTER TABLE shop.projects DISABLE ROW LEVEL SECURITY",
    ),
    (
        "table-rls-not-forced",
        "ALTER TABLE shop.projects NO FORCE ROW LEVEL SECURITY",
    ),
    ("table-no-policy", "DROP POLICY own ON shop.notes"),
    (
        "table-no-policy",
        "DROP POLICY own ON shop.projects; \
        CREATE POLICY own ON shop.projects FOR SELECT USING (tenant_id = shop.tenant())",
    ),
    (
        "table-unknown",
        "CREATE TABLE shop.lines (project bigint, body text); GRANT SELECT ON shop.lines TO @app",
    ),
    (
        "table-unknown",
        "CREATE TABLE shop.lines (project bigint, body text); GRANT SELECT (body) ON shop.lines TO @app",
    ),
    (
        "table-unknown",
        "CREATE TABLE shop.lines (body text); GRANT pg_read_all_data TO @app",
    ),
    (
        "table-rls-disabled",
        "CREATE TABLE shop.lines (tenant_id int, body text); GRANT INSERT ON shop.lines TO @app",
    ),
    (
        "table-partition-open",
        "CREATE TABLE shop.events (tenant_id int NOT NULL, body text) PARTITION BY LIST (tenant_id); \
        CREATE TABLE shop.events_2 PARTITION OF shop.events FOR VALUES IN (2); \
        ALTER TABLE shop.events ENABLE ROW LEVEL SECURITY; ALTER TABLE shop.events FORCE ROW LEVEL SECURITY; \
        CREATE POLICY own ON shop.events USING (tenant_id = shop.tenant()); \
        GRANT SELECT ON shop.events, shop.events_2 TO @app",
    ),
    // What policies let through.
    (
        "policy-lets-foreign-rows-through",
        "DROP POLICY own ON shop.projects; CREATE POLICY own ON shop.projects USING (true)",
    ),
    (
        "policy-lets-foreign-rows-through",
        "CREATE POLICY more ON shop.projects FOR SELECT TO @app USING (public)",
    ),
    (
        "policy-lets-foreign-rows-through",
        "CREATE POLICY more ON shop.projects FOR SELECT USING (visible_to = 'everybody')",
    ),
    (
        "policy-lets-foreign-rows-through",
        "CREATE POLICY more ON shop.projects FOR DELETE USING (id > 0)",
    ),
    (
        "policy-lets-foreign-rows-through",
        "DROP POLICY own ON shop.projects; \
        CREATE POLICY own ON shop.projects USING (visible_to = current_user AND tenant_id IS NOT NULL)",
    ),
    (
        "policy-lets-foreign-rows-through",
        "DROP POLICY own ON shop.projects; \
        CREATE POLICY own ON shop.projects USING (tenant_id = coalesce(shop.tenant(), tenant_id))",
    ),
    (
        "policy-lets-foreign-rows-through",
        "DROP POLICY own ON shop.projects; \
        CREATE POLICY own ON shop.projects USING (tenant_id <= shop.tenant())",
    ),
    (
        "policy-lets-foreign-rows-through",
        "DROP POLICY own ON shop.notes; \
        CREATE POLICY own ON shop.notes USING (tenant_id LIKE nullif(current_setting('app.tenant_id', true), ''))",
    ),
    (
        "policy-lets-foreign-rows-through",
        "DROP POLICY own ON shop.notes; \
        CREATE POLICY own ON shop.notes USING (lower(tenant_id) = lower(nullif(current_setting('app.tenant_id', true), '')))",
    ),
    (
        "policy-empty-tenant",
        "ALTER TABLE shop.notes DROP CONSTRAINT notes_tenant_id_check; DROP POLICY own ON shop.notes; \
        CREATE POLICY own ON shop.notes USING (tenant_id = current_setting('app.tenant_id', true))",
    ),
    (
        "policy-lets-foreign-rows-through",
        "CREATE ROLE @app_g; GRANT @app_g TO @app; CREATE POLICY more ON shop.projects TO @app_g USING (true)",
    ),
    (
        "policy-lets-foreign-rows-be-written",
        "DROP POLICY own ON shop.projects; \
        CREATE POLICY own ON shop.projects USING (tenant_id = shop.tenant()) WITH CHECK (true)",
    ),
    (
        "policy-lets-foreign-rows-be-written",
        "CREATE POLICY more ON shop.projects FOR UPDATE USING (tenant_id = shop.tenant()) WITH CHECK (name <> '')",
    ),
    (
        "policy-lets-nobodys-rows-be-written",
        "ALTER TABLE shop.notes ALTER tenant_id DROP NOT NULL; \
        CREATE POLICY more ON shop.notes FOR INSERT WITH CHECK (tenant_id IS NULL)",
    ),
    (
        "policy-not-proven",
        "DROP POLICY own ON shop.projects; CREATE POLICY own ON shop.projects \
        USING (tenant_id IN (SELECT t.id FROM shop.tenants AS t WHERE t.name = 'nobody'))",
    ),
    (
        "policy-not-proven",
        "CREATE TABLE shop.lines (project bigint); ALTER TABLE shop.lines ENABLE ROW LEVEL SECURITY; \
        ALTER TABLE shop.lines FORCE ROW LEVEL SECURITY; GRANT SELECT ON shop.lines TO @app; \
        CREATE POLICY own ON shop.lines USING (project IN (SELECT id FROM shop.projects))",
    ),
    // Ways round.
    (
        "view-bypasses-policies",
        "CREATE VIEW shop.v AS SELECT name FROM shop.projects; GRANT SELECT ON shop.v TO @app",
    ),
    (
        "view-bypasses-policies",
        "CREATE VIEW shop.u AS SELECT * FROM shop.projects; CREATE VIEW shop.v AS SELECT name FROM shop.u; \
        ALTER VIEW shop.v OWNER TO @owner; GRANT SELECT ON shop.u TO @owner; GRANT SELECT ON shop.v TO @app",
    ),
    (
        "view-without-barrier",
        "CREATE TABLE shop.bills (tenant_id int, sum int); CREATE VIEW shop.v AS \
        SELECT * FROM shop.bills WHERE tenant_id = shop.tenant(); GRANT SELECT ON shop.v TO @app",
    ),
    (
        "view-materialized",
        "CREATE MATERIALIZED VIEW shop.m AS SELECT name FROM shop.projects; GRANT SELECT ON shop.m TO @app",
    ),
    (
        "view-bypasses-policies",
        "CREATE POLICY owner_sees_all ON shop.projects FOR SELECT TO @owner USING (true); \
        CREATE VIEW shop.v AS SELECT * FROM shop.projects; ALTER VIEW shop.v OWNER TO @owner; GRANT SELECT ON shop.v TO @app",
    ),
    (
        "rule-copies-rows",
        "CREATE TABLE shop.copied (name text); \
        CREATE RULE copies AS ON INSERT TO shop.projects DO ALSO INSERT INTO shop.copied VALUES (new.name)",
    ),
    (
        "rule-copies-rows",
        "ALTER TABLE shop.projects OWNER TO postgres; \
        CREATE RULE copies AS ON INSERT TO shop.projects DO ALSO INSERT INTO shop.notes VALUES ('1', 1, new.name)",
    ),
    (
        "function-bypasses-policies",
        "CREATE FUNCTION shop.f() RETURNS SETOF shop.projects LANGUAGE sql SECURITY DEFINER \
        SET search_path = pg_catalog, pg_temp AS 'SELECT * FROM shop.projects'",
    ),
    (
        "function-search-path",
        "CREATE FUNCTION shop.f() RETURNS SETOF shop.projects LANGUAGE sql SECURITY DEFINER \
        AS 'SELECT * FROM shop.projects'; ALTER FUNCTION shop.f() OWNER TO @owner",
    ),
    (
        "function-leakproof",
        "CREATE FUNCTION shop.f(text) RETURNS boolean LANGUAGE plpgsql LEAKPROOF COST 0.0001 \
        AS 'BEGIN RAISE NOTICE ''%'', $1; RETURN true; END'",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_way_out_is_found() {
    let shop = Shop::new().await;
    let mut wrong = Vec::new();
    for (rule, sql) in HOLES {
        let (rules, report) = shop.after(sql, shop.isolation()).await;
        if !rules.contains(rule) {
            wrong.push(format!("{rule} was not found after {sql}:\n{report}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// What keeps tenants apart and looks as if it did not.
const SAFE: &[&str] = &[
    "SELECT 1",
    // Whatever others say, this one holds as well.
    "CREATE POLICY all_of_it ON shop.projects USING (true); CREATE POLICY backstop ON shop.projects AS RESTRICTIVE \
        USING (tenant_id = shop.tenant())",
    // An empty setting is no number: an error, and no row.
    "DROP POLICY own ON shop.projects; \
        CREATE POLICY own ON shop.projects USING (tenant_id = current_setting('app.tenant_id', true)::int)",
    // There are no rows of the tenant ''.
    "DROP POLICY own ON shop.notes; \
        CREATE POLICY own ON shop.notes USING (tenant_id = current_setting('app.tenant_id', true))",
    "CREATE POLICY for_admins ON shop.projects TO @owner USING (true)",
    "CREATE POLICY less ON shop.projects AS RESTRICTIVE FOR SELECT USING (public OR visible_to IS NULL)",
    // What cannot be reached.
    "CREATE TABLE shop.lines (tenant_id int, body text)",
    "CREATE MATERIALIZED VIEW shop.m AS SELECT name FROM shop.projects",
    "CREATE SCHEMA inner_room; CREATE TABLE inner_room.t (a int); GRANT ALL ON inner_room.t TO @app",
    // Views and functions for whose owner the policies hold.
    "CREATE VIEW shop.v AS SELECT * FROM shop.projects; ALTER VIEW shop.v OWNER TO @owner; GRANT SELECT ON shop.v TO @app",
    "CREATE VIEW shop.v AS SELECT * FROM shop.countries; GRANT SELECT ON shop.v TO @app",
    "CREATE FUNCTION shop.f() RETURNS SETOF shop.projects LANGUAGE sql SECURITY DEFINER \
        SET search_path = pg_catalog, pg_temp AS 'SELECT * FROM shop.projects'; ALTER FUNCTION shop.f() OWNER TO @owner",
    "CREATE FUNCTION shop.f() RETURNS SETOF shop.projects LANGUAGE sql AS 'SELECT * FROM shop.projects'",
    // A rule for whose owner the policies of the other table hold.
    "CREATE RULE copies AS ON INSERT TO shop.projects DO ALSO INSERT INTO shop.notes VALUES (new.tenant_id::text, 1, 'n')",
    // Partitions that are reached through their parent alone.
    "CREATE TABLE shop.events (tenant_id int NOT NULL, body text) PARTITION BY LIST (tenant_id); \
        CREATE TABLE shop.events_2 PARTITION OF shop.events FOR VALUES IN (2); \
        ALTER TABLE shop.events ENABLE ROW LEVEL SECURITY; ALTER TABLE shop.events FORCE ROW LEVEL SECURITY; \
        CREATE POLICY own ON shop.events USING (tenant_id = shop.tenant()); GRANT SELECT ON shop.events TO @app",
    // Columns that policies speak of, of many types.
    "CREATE TYPE shop.level AS ENUM ('low', 'high'); CREATE DOMAIN shop.tenant AS int; \
        CREATE TABLE shop.\"Odd\"\"Name\" (tenant_id shop.tenant NOT NULL, level shop.level NOT NULL, upto timestamptz, \
          tags text[] NOT NULL, \"a column\" jsonb); \
        ALTER TABLE shop.\"Odd\"\"Name\" ENABLE ROW LEVEL SECURITY; ALTER TABLE shop.\"Odd\"\"Name\" FORCE ROW LEVEL SECURITY; \
        CREATE POLICY own ON shop.\"Odd\"\"Name\" USING (tenant_id = shop.tenant() AND level = 'high' \
          AND (upto IS NULL OR upto > now()) AND NOT coalesce(tags @> '{hidden}', false)); \
        GRANT SELECT, INSERT, UPDATE, DELETE ON shop.\"Odd\"\"Name\" TO @app",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_safe_is_not_reported() {
    let shop = Shop::new().await;
    let mut wrong = Vec::new();
    for sql in SAFE {
        let (rules, report) = shop.after(sql, shop.isolation()).await;
        if !rules.is_empty() {
            wrong.push(format!("after {sql}:\n{report}"));
        }
    }
    // A view with the rights of whoever asks, which 14 does not have.
    if server().await.version() >= 150_000 {
        let sql = "CREATE VIEW shop.v WITH (security_invoker) AS SELECT * FROM shop.projects; \
                   GRANT SELECT ON shop.v TO @app";
        let (rules, report) = shop.after(sql, shop.isolation()).await;
        assert!(rules.is_empty(), "{report}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_taken_at_their_word() {
    let shop = Shop::new().await;
    let sql = "CREATE TABLE shop.lines (tenant_id int, body text); GRANT ALL ON shop.lines TO @app; \
               CREATE VIEW shop.v AS SELECT * FROM shop.lines; GRANT SELECT ON shop.v TO @app; \
               CREATE FUNCTION shop.f(a int) RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT name FROM shop.projects'";
    let isolation = shop
        .isolation()
        .reviewed("shop.lines")
        .reviewed("shop.v")
        .reviewed("shop.f(int)");
    let (rules, report) = shop.after(sql, isolation).await;
    assert!(rules.is_empty(), "{report}");
    // What is on a list and not there, or cannot be a name.
    for (sql, isolation) in [
        ("SELECT 1", shop.isolation().reviewed("shop.f(int)")),
        ("SELECT 1", shop.isolation().reviewed("shop.f(int")),
        ("SELECT 1", shop.isolation().reviewed("'; DROP")),
        ("DROP TABLE shop.countries", shop.isolation()),
        (
            "SELECT 1",
            shop.isolation().tenant_column_of("shop.notes", "tenant"),
        ),
    ] {
        let error = shop.proven(sql, isolation).await.expect_err(sql);
        assert_eq!(error.kind(), ErrorKind::InvalidOption, "{error}");
    }
    // With other names for everything, there is nothing left that would be judged.
    let empty = "DROP TABLE shop.projects, shop.tenants, shop.notes, shop.countries CASCADE";
    let error = shop.proven(empty, Isolation::of(&shop.app)).await.err();
    assert_eq!(
        error.map(|error| error.kind()),
        Some(ErrorKind::InvalidOption)
    );
}

/// Policies that ask other tables are judged with tenants that are there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_that_ask_others_are_judged_with_contexts_of_ones_own() {
    use tenantry::{TenantContext, TenantId};

    let shop = Shop::new().await;
    let members = "CREATE TABLE shop.members (tenant_id int, user_id text); \
        ALTER TABLE shop.members ENABLE ROW LEVEL SECURITY; ALTER TABLE shop.members FORCE ROW LEVEL SECURITY; \
        CREATE POLICY own ON shop.members USING (tenant_id = shop.tenant()); GRANT SELECT ON shop.members TO @app; \
        INSERT INTO shop.members VALUES (1, 'ann'), (2, 'bob'); \
        DROP POLICY own ON shop.projects; CREATE POLICY own ON shop.projects USING (tenant_id IN ( \
          SELECT m.tenant_id FROM shop.members AS m WHERE m.user_id = current_setting('app.user_id', true)))";
    let context = |tenant: u32, user: &str| TenantContext::new(TenantId::from(tenant)).user(user);
    let contexts = || {
        shop.isolation()
            .contexts(context(1, "ann"), context(2, "bob"))
    };
    let (rules, _) = shop.after(members, shop.isolation()).await;
    assert_eq!(rules, ["policy-not-proven"]);
    let (rules, report) = shop.after(members, contexts()).await;
    assert!(rules.is_empty(), "{report}");
    // The policy of the table that is asked is what keeps them apart.
    let open = format!(
        "{members}; ALTER POLICY own ON shop.members USING (true); UPDATE shop.members SET user_id = 'ann'"
    );
    let (rules, _) = shop.after(&open, contexts()).await;
    assert!(
        rules.contains(&"policy-lets-foreign-rows-through"),
        "{rules:?}"
    );
}
