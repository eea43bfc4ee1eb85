//! What `TenantTable` and `ReferenceTable` make of a table.

mod support;

use sqlx::PgConnection;
use support::database::{A, B, Outcome, TestDatabase, refused, run, text, text_as, version};
use tenantry::ErrorKind;
use tenantry::sql::{AdviceRule, Installation, TenantType};

async fn with_table(sql: &str) -> Outcome<(TestDatabase, Installation, PgConnection)> {
    let database = TestDatabase::start().await?;
    let mut owner = database.owner().await?;
    let installation = Installation::new(&database.app);
    installation.install(&mut owner).await?;
    run(
        &mut owner,
        &format!(
            "CREATE SCHEMA app; GRANT USAGE ON SCHEMA app TO {}",
            database.app
        ),
    )
    .await?;
    run(&mut owner, sql).await?;
    Ok((database, installation, owner))
}

const INVOICES: &str = "CREATE TABLE app.invoices (id bigserial, amount int)";

/// Each row of the matrix: whatever a statement tries with the rows of B, A does not see them,
/// change them or make one.
async fn assert_isolated(
    app: &mut PgConnection,
    table: &str,
    column: &str,
    a: &str,
    b: &str,
) -> Outcome {
    for (tenant, amount) in [(a, 1), (b, 2)] {
        run(app, &format!("BEGIN; SET LOCAL app.tenant_id = '{tenant}'; INSERT INTO {table} (amount) VALUES ({amount}); COMMIT")).await?;
    }
    for (sql, answer) in [
        (
            format!("SELECT string_agg(amount::text, ',') FROM {table}"),
            "1",
        ),
        (
            format!("SELECT count(*) FROM {table} WHERE {column} = '{b}'"),
            "0",
        ),
        (
            format!("WITH x AS (UPDATE {table} SET amount = 9 RETURNING 1) SELECT count(*) FROM x"),
            "1",
        ),
        (
            format!(
                "WITH x AS (UPDATE {table} SET amount = 9 WHERE {column} = '{b}' RETURNING 1) SELECT count(*) FROM x"
            ),
            "0",
        ),
        (
            format!("WITH x AS (DELETE FROM {table} RETURNING 1) SELECT count(*) FROM x"),
            "1",
        ),
    ] {
        assert_eq!(text_as(app, a, &sql).await?, answer, "{sql}");
    }
    for sql in [
        format!("INSERT INTO {table} ({column}, amount) VALUES ('{b}', 3)"),
        format!("UPDATE {table} SET {column} = '{b}'"),
        format!("TRUNCATE {table}"),
    ] {
        let sql = format!("BEGIN; SET LOCAL app.tenant_id = '{a}'; {sql}");
        assert_eq!(refused(app, &sql).await, "42501", "{sql}");
        run(app, "ROLLBACK").await?;
    }
    // Without a context, and with the '' that a transaction leaves behind.
    for context in ["RESET app.tenant_id", "SET app.tenant_id = ''"] {
        run(app, context).await?;
        for sql in [
            format!("SELECT count(*) FROM {table}"),
            format!("WITH x AS (DELETE FROM {table} RETURNING 1) SELECT count(*) FROM x"),
        ] {
            assert_eq!(text(app, &sql).await?, "0", "{context}");
        }
        let code = refused(app, &format!("INSERT INTO {table} (amount) VALUES (4)")).await;
        assert!(["42501", "23502"].contains(&&*code), "{context}: {code}");
    }
    run(app, "RESET app.tenant_id").await
}

#[tokio::test]
async fn uuid_bigint_and_text() -> Outcome {
    for (kind, declared, a, b) in [
        (TenantType::Uuid, "", A, B),
        (TenantType::Uuid, ", tenant_id uuid", A, B),
        (TenantType::BigInt, "", "1", "2"),
        (TenantType::BigInt, ", tenant_id int", "1", "2"),
        (TenantType::Text, "", "acme", "b'x\\"),
        (TenantType::Text, ", tenant_id varchar(20)", "acme", "%"),
    ] {
        let (database, installation, mut owner) = with_table(&format!(
            "CREATE TABLE app.invoices (id bigserial, amount int{declared})"
        ))
        .await?;
        let installation = installation.tenant_column("tenant_id", kind);
        installation.table("app.invoices").apply(&mut owner).await?;
        let (a, b) = (a.replace('\'', "''"), b.replace('\'', "''"));
        assert_isolated(
            &mut database.app().await?,
            "app.invoices",
            "tenant_id",
            &a,
            &b,
        )
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn weird_names() -> Outcome {
    let table = r#""My ""App"."Weird.Name's \ $tenantry$""#;
    let (database, installation, mut owner) = with_table(&format!(
        r#"CREATE SCHEMA "My ""App"; CREATE TABLE {table} (id bigserial, amount int)"#
    ))
    .await?;
    let installation = installation.tenant_column(r#"Tenant "Id'\%s"#, TenantType::Uuid);
    run(
        &mut owner,
        &format!(r#"GRANT USAGE ON SCHEMA "My ""App" TO {}"#, database.app),
    )
    .await?;
    for _ in 0..2 {
        installation.table(table).apply(&mut owner).await?;
    }
    assert_isolated(
        &mut database.app().await?,
        table,
        r#""Tenant ""Id'\%s""#,
        A,
        B,
    )
    .await?;
    assert!(
        installation
            .table(table)
            .advice(&mut owner)
            .await?
            .is_empty()
    );
    Ok(())
}

/// '' is no tenant, also for a row that has it.
#[tokio::test]
async fn the_empty_text_never_matches() -> Outcome {
    let (database, installation, mut owner) = with_table(
        "CREATE TABLE app.notes (tenant_id text, amount int); INSERT INTO app.notes VALUES ('', 1)",
    )
    .await?;
    let installation = installation.tenant_column("tenant_id", TenantType::Text);
    installation.table("app.notes").apply(&mut owner).await?;
    let mut app = database.app().await?;
    let sql = "SELECT count(*) FROM app.notes";
    run(&mut app, "BEGIN; SET LOCAL app.tenant_id = 'acme'; COMMIT").await?;
    assert_eq!(
        text(&mut app, "SELECT current_setting('app.tenant_id')").await?,
        ""
    );
    assert_eq!(text(&mut app, sql).await?, "0");
    assert_eq!(text_as(&mut app, "", sql).await?, "0");
    // Specimen: the policy without its nullif.
    run(
        &mut owner,
        "DROP POLICY tenantry_backstop ON app.notes; DROP POLICY tenantry_tenant ON app.notes;
         CREATE POLICY p ON app.notes USING (tenant_id = current_setting('app.tenant_id', true))",
    )
    .await?;
    assert_eq!(text(&mut app, sql).await?, "1");
    Ok(())
}

#[tokio::test]
async fn the_backstop_holds_behind_a_policy_for_everything() -> Outcome {
    let (database, installation, mut owner) = with_table(INVOICES).await?;
    installation.table("app.invoices").apply(&mut owner).await?;
    run(
        &mut owner,
        "CREATE POLICY oops ON app.invoices USING (true) WITH CHECK (true)",
    )
    .await?;
    let mut app = database.app().await?;
    assert_isolated(&mut app, "app.invoices", "tenant_id", A, B).await?;
    // Specimen: without the backstop it is all there to see.
    assert_eq!(
        text_as(&mut app, A, "SELECT count(*) FROM app.invoices").await?,
        "1"
    );
    run(&mut owner, "DROP POLICY tenantry_backstop ON app.invoices").await?;
    assert_eq!(
        text_as(&mut app, A, "SELECT count(*) FROM app.invoices").await?,
        "2"
    );
    // And the script mends it, for the owner's own eyes too.
    installation.table("app.invoices").apply(&mut owner).await?;
    assert_eq!(
        text_as(&mut app, A, "SELECT count(*) FROM app.invoices").await?,
        "1"
    );
    assert_eq!(
        text(&mut owner, "SELECT count(*) FROM app.invoices").await?,
        "0"
    );
    Ok(())
}

#[tokio::test]
async fn the_plan_reads_the_context_once_and_uses_the_index() -> Outcome {
    let (database, installation, mut owner) = with_table(
        "CREATE TABLE app.invoices (tenant_id uuid, id bigint, amount int);
         INSERT INTO app.invoices SELECT gen_random_uuid(), i, i FROM generate_series(1, 5000) AS i",
    )
    .await?;
    installation.table("app.invoices").apply(&mut owner).await?;
    run(&mut owner, "ANALYZE app.invoices").await?;
    let mut app = database.app().await?;
    let explain = "EXPLAIN (FORMAT JSON) SELECT sum(amount) FROM app.invoices";
    let plan = text_as(&mut app, A, explain).await?;
    assert!(
        plan.contains("\"Parent Relationship\": \"InitPlan\""),
        "{plan}"
    );
    assert!(plan.contains("Index"), "{plan}");
    assert!(!plan.contains("Seq Scan"), "{plan}");
    // Specimen: the form without a sub-select, over a function as people write one.
    run(
        &mut owner,
        "CREATE FUNCTION app.tenant() RETURNS uuid LANGUAGE plpgsql AS
           $$ BEGIN RETURN nullif(current_setting('app.tenant_id', true), '')::uuid; END $$;
         GRANT USAGE ON SCHEMA app TO PUBLIC;
         DROP POLICY tenantry_backstop ON app.invoices; DROP POLICY tenantry_tenant ON app.invoices;
         CREATE POLICY p ON app.invoices USING (tenant_id = app.tenant())",
    )
    .await?;
    let plan = text_as(&mut app, A, explain).await?;
    assert!(
        !plan.contains("InitPlan") && plan.contains("Seq Scan"),
        "{plan}"
    );
    Ok(())
}

/// Everything about a table that the script makes.
async fn snapshot(owner: &mut PgConnection) -> Outcome<String> {
    text(
        owner,
        "SELECT string_agg(concat_ws(',', c.oid, relname, relacl, relrowsecurity, relforcerowsecurity,
            (SELECT string_agg(concat_ws(',', polname, polcmd, polpermissive, polroles, pg_get_expr(polqual, c.oid),
                pg_get_expr(polwithcheck, c.oid)), ';' ORDER BY polname) FROM pg_policy WHERE polrelid = c.oid),
            (SELECT string_agg(concat_ws(',', attname, attnotnull, pg_get_expr(adbin, c.oid)), ';' ORDER BY attnum)
                FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum WHERE attrelid = c.oid)
          ), E'\\n' ORDER BY relname)
         FROM pg_class AS c WHERE relnamespace = 'app'::regnamespace",
    )
    .await
}

#[tokio::test]
async fn twice_is_once() -> Outcome {
    let (_database, installation, mut owner) = with_table(INVOICES).await?;
    let table = installation.table("app.invoices");
    table.apply(&mut owner).await?;
    let first = snapshot(&mut owner).await?;
    table.apply(&mut owner).await?;
    assert_eq!(first, snapshot(&mut owner).await?);
    // Without a schema it is found by the search_path, which stays what it was.
    run(&mut owner, "SET search_path = app").await?;
    installation.table("Invoices").apply(&mut owner).await?;
    assert_eq!(text(&mut owner, "SHOW search_path").await?, "app");
    run(&mut owner, "RESET search_path").await?;
    assert_eq!(first, snapshot(&mut owner).await?);
    Ok(())
}

#[tokio::test]
async fn no_index_where_there_is_one() -> Outcome {
    for (columns, indexes) in [
        ("(tenant_id uuid, id int, PRIMARY KEY (tenant_id, id))", "1"),
        ("(tenant_id uuid, id int, PRIMARY KEY (id, tenant_id))", "2"),
        ("(id int)", "1"),
    ] {
        let (_database, installation, mut owner) =
            with_table(&format!("CREATE TABLE app.invoices {columns}")).await?;
        installation.table("app.invoices").apply(&mut owner).await?;
        let sql = "SELECT count(*) FROM pg_index WHERE indrelid = 'app.invoices'::regclass";
        assert_eq!(text(&mut owner, sql).await?, indexes, "{columns}");
    }
    Ok(())
}

#[tokio::test]
async fn privileges_are_the_four() -> Outcome {
    let (database, installation, mut owner) = with_table(INVOICES).await?;
    run(&mut owner, &format!("GRANT ALL ON app.invoices TO PUBLIC, {app}; GRANT ALL ON SEQUENCE app.invoices_id_seq TO PUBLIC, {app}", app = database.app)).await?;
    installation.table("app.invoices").apply(&mut owner).await?;
    let acl = "SELECT string_agg(a.privilege_type, ',' ORDER BY a.privilege_type) FROM pg_class AS c, aclexplode(relacl) AS a \
               WHERE c.oid = 'NAME'::regclass AND a.grantee <> c.relowner";
    assert_eq!(
        text(&mut owner, &acl.replace("NAME", "app.invoices")).await?,
        "DELETE,INSERT,SELECT,UPDATE"
    );
    assert_eq!(
        text(&mut owner, &acl.replace("NAME", "app.invoices_id_seq")).await?,
        "USAGE"
    );
    Ok(())
}

#[tokio::test]
async fn partitions_are_covered() -> Outcome {
    let (database, installation, mut owner) = with_table(
        "CREATE TABLE app.events (id int, amount int, tenant_id uuid NOT NULL) PARTITION BY RANGE (amount);
         CREATE TABLE app.low PARTITION OF app.events FOR VALUES FROM (0) TO (5) PARTITION BY RANGE (amount);
         CREATE TABLE app.lowest PARTITION OF app.low FOR VALUES FROM (0) TO (5);
         CREATE TABLE app.high PARTITION OF app.events FOR VALUES FROM (5) TO (100)",
    )
    .await?;
    run(
        &mut owner,
        &format!("GRANT SELECT ON app.lowest TO {}", database.app),
    )
    .await?;
    let table = installation.table("app.events");
    table.apply(&mut owner).await?;
    let mut app = database.app().await?;
    assert_isolated(&mut app, "app.events", "tenant_id", A, B).await?;
    assert_eq!(refused(&mut app, "SELECT FROM app.lowest").await, "42501");
    // Even with a privilege on the partition itself.
    run(
        &mut owner,
        &format!("GRANT SELECT ON app.lowest TO {}", database.app),
    )
    .await?;
    assert_eq!(
        text_as(&mut app, A, "SELECT count(*) FROM app.lowest").await?,
        "1"
    );

    assert_eq!(table.advice(&mut owner).await?, []);
    run(
        &mut owner,
        "CREATE TABLE app.late PARTITION OF app.events FOR VALUES FROM (100) TO (200)",
    )
    .await?;
    let advice = table.advice(&mut owner).await?;
    assert_eq!(advice.len(), 1, "{advice:?}");
    assert_eq!(
        (advice[0].rule(), advice[0].object()),
        (AdviceRule::UncoveredPartition, "app.late")
    );
    run(&mut owner, advice[0].sql()).await?;
    assert_eq!(table.advice(&mut owner).await?, []);
    Ok(())
}

#[tokio::test]
async fn what_does_not_fit_is_refused_whole() -> Outcome {
    let (_database, installation, mut owner) = with_table(
        "CREATE TABLE app.invoices (id int); INSERT INTO app.invoices VALUES (1);
         CREATE TABLE app.notes (tenant_id char(5)); CREATE VIEW app.view AS SELECT 1 AS tenant_id",
    )
    .await?;
    let before = snapshot(&mut owner).await?;
    for (name, part) in [
        ("app.invoices", "fill the tenant column"),
        ("app.notes", "another type"),
        ("app.view", "not a view"),
    ] {
        let error = installation
            .table(name)
            .apply(&mut owner)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Installation);
        assert!(error.to_string().contains(part), "{error}");
    }
    // char(n) takes 'a' and 'a ' for the same tenant, so it is no text column.
    let text_tenants = installation
        .clone()
        .tenant_column("tenant_id", TenantType::Text);
    let error = text_tenants
        .table("app.notes")
        .apply(&mut owner)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("another type"), "{error}");
    let error = installation
        .table("app.missing")
        .apply(&mut owner)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Database);
    assert_eq!(
        installation.table("a b").sql().unwrap_err().kind(),
        ErrorKind::InvalidOption
    );
    assert_eq!(before, snapshot(&mut owner).await?);
    Ok(())
}

#[tokio::test]
async fn a_reference_table_is_read_only_and_known() -> Outcome {
    let (database, installation, mut owner) =
        with_table("CREATE TABLE app.countries (id serial, code text); INSERT INTO app.countries (code) VALUES ('NO')").await?;
    run(
        &mut owner,
        &format!("GRANT ALL ON app.countries TO PUBLIC, {}", database.app),
    )
    .await?;
    for _ in 0..2 {
        installation
            .reference_table("app.countries")
            .apply(&mut owner)
            .await?;
    }
    let mut app = database.app().await?;
    assert_eq!(
        text(&mut app, "SELECT code FROM app.countries").await?,
        "NO"
    );
    for sql in [
        "INSERT INTO app.countries VALUES (2, 'SE')",
        "UPDATE app.countries SET code = 'SE'",
        "DELETE FROM app.countries",
        "TRUNCATE app.countries",
    ] {
        assert_eq!(refused(&mut app, sql).await, "42501", "{sql}");
    }
    assert_eq!(
        text(
            &mut app,
            "SELECT string_agg(relation::text, ',') FROM tenantry.reference_tables"
        )
        .await?,
        "app.countries"
    );
    run(&mut owner, "DROP SCHEMA tenantry CASCADE").await?;
    let error = installation
        .reference_table("app.countries")
        .apply(&mut owner)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("Installation::install"),
        "{error}"
    );
    Ok(())
}

/// Each rule finds its specimen, and its own SQL mends it.
#[tokio::test]
async fn advice_finds_and_mends() -> Outcome {
    let (_database, installation, mut owner) = with_table(
        "CREATE TABLE app.customers (tenant_id uuid, id uuid, email text, PRIMARY KEY (tenant_id, id), UNIQUE (id));
         CREATE TABLE app.invoices (tenant_id uuid, id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
           number text CONSTRAINT number_key UNIQUE DEFERRABLE, customer uuid,
           CONSTRAINT customer_fkey FOREIGN KEY (customer) REFERENCES app.customers (id) ON DELETE SET NULL);
         CREATE UNIQUE INDEX lower_key ON app.invoices (lower(number) DESC) INCLUDE (customer) WHERE id > 0",
    )
    .await?;
    let table = installation.table("app.invoices");
    let error = installation
        .table("pg_class")
        .advice(&mut owner)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Installation);
    // Before it is applied it has no index either.
    let found = |advice: &[tenantry::sql::Advice]| {
        advice
            .iter()
            .map(|a| (a.rule(), a.object().to_owned()))
            .collect::<Vec<_>>()
    };
    let advice = table.advice(&mut owner).await?;
    assert!(
        found(&advice).contains(&(AdviceRule::NoTenantIndex, "app.invoices".to_owned())),
        "{advice:?}"
    );
    table.apply(&mut owner).await?;
    let advice = table.advice(&mut owner).await?;
    assert_eq!(
        found(&advice),
        [
            (
                AdviceRule::ForeignKeyWithoutTenant,
                "customer_fkey".to_owned()
            ),
            (AdviceRule::KeyWithoutTenant, "app.lower_key".to_owned()),
            (AdviceRule::KeyWithoutTenant, "number_key".to_owned()),
            (
                AdviceRule::SurrogateKeyWithoutTenant,
                "invoices_pkey".to_owned()
            ),
        ]
    );
    // 14 has no list of the columns to set, and to set all would set the tenant.
    let lists = version(&mut owner).await? >= 150_000;
    assert_eq!(advice[0].sql().contains("/* PostgreSQL 14"), !lists);
    for advice in &advice {
        run(&mut owner, advice.sql())
            .await
            .map_err(|error| format!("{advice}: {error}"))?;
    }
    assert_eq!(table.advice(&mut owner).await?, []);
    let on_delete = if lists {
        " ON DELETE SET NULL (customer)"
    } else {
        ""
    };
    let definitions = "SELECT string_agg(pg_get_constraintdef(oid), '; ' ORDER BY conname) FROM pg_constraint \
                       WHERE conrelid = 'app.invoices'::regclass AND contype IN ('p', 'u', 'f')";
    assert_eq!(
        text(&mut owner, definitions).await?,
        format!(
            "FOREIGN KEY (tenant_id, customer) REFERENCES app.customers(tenant_id, id){on_delete}; \
             PRIMARY KEY (tenant_id, id); UNIQUE (tenant_id, number) DEFERRABLE"
        )
    );
    assert!(
        text(
            &mut owner,
            "SELECT pg_get_indexdef('app.lower_key'::regclass)"
        )
        .await?
        .ends_with("USING btree (tenant_id, lower(number) DESC) INCLUDE (customer) WHERE (id > 0)")
    );
    Ok(())
}

#[tokio::test]
async fn advice_on_text_tenants() -> Outcome {
    let (_database, installation, mut owner) = with_table(
        "CREATE TABLE app.a (tenant_id text); CREATE TABLE app.b (tenant_id text CHECK (tenant_id ~ '^[a-z]+$'));
         CREATE TABLE app.c (tenant_id text CHECK (length(tenant_id) < 5))",
    )
    .await?;
    let installation = installation.tenant_column("tenant_id", TenantType::Text);
    for (name, findings) in [("app.a", 1), ("app.b", 0), ("app.c", 1)] {
        let table = installation.table(name);
        table.apply(&mut owner).await?;
        let advice = table.advice(&mut owner).await?;
        assert_eq!(advice.len(), findings, "{name}: {advice:?}");
        for advice in advice {
            assert_eq!(advice.rule(), AdviceRule::EmptyTenant);
            run(&mut owner, advice.sql()).await?;
        }
        assert_eq!(table.advice(&mut owner).await?, []);
    }
    Ok(())
}

#[tokio::test]
async fn advice_on_a_collation_that_merges_tenants() -> Outcome {
    let (database, installation, mut owner) = with_table("").await?;
    let collation = "CREATE COLLATION app.any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)";
    if refused(&mut owner, collation).await == "0A000" {
        return Ok(()); // a server built without ICU has no such collations
    }
    run(
        &mut owner,
        "CREATE TABLE app.notes (tenant_id text COLLATE app.any_case CHECK (tenant_id <> ''), amount int)",
    )
    .await?;
    let table = installation
        .tenant_column("tenant_id", TenantType::Text)
        .table("app.notes");
    let error = table.apply(&mut owner).await.unwrap_err();
    assert!(error.to_string().contains("collation"), "{error}");
    let advice = table.advice(&mut owner).await?;
    let collation = advice
        .iter()
        .find(|a| a.rule() == AdviceRule::NondeterministicCollation);
    run(&mut owner, collation.ok_or("not found")?.sql()).await?;
    table.apply(&mut owner).await?;
    assert_eq!(table.advice(&mut owner).await?, []);

    let mut app = database.app().await?;
    let insert = "INSERT INTO app.notes VALUES ('acme', 1); COMMIT; SELECT 1";
    text_as(&mut app, "acme", insert).await?;
    let count = "SELECT count(*) FROM app.notes";
    assert_eq!(text_as(&mut app, "ACME", count).await?, "0");
    Ok(())
}
