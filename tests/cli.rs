//! The command `tenantry`, run as its users run it.

mod support;

#[path = "support/folder.rs"]
mod folder;

use std::path::PathBuf;
use std::process::Output;

use folder::Folder;
use serde_json::Value;
use sqlx::{ConnectOptions as _, Executor as _};
use support::{World, empty_world, world};
use tokio::process::Command;

/// Where the command is run, with nothing of ours in its environment.
struct Desk {
    folder: Folder,
    url: Option<String>,
}

impl Desk {
    fn of(world: &World) -> Self {
        Self {
            url: Some(world.admin.to_url_lossy().to_string()),
            ..Self::without_database()
        }
    }

    fn without_database() -> Self {
        Self {
            folder: Folder::new(),
            url: None,
        }
    }

    fn write(&self, text: &str) {
        let path: PathBuf = self.folder.path().join("tenantry.toml");
        std::fs::write(path, text).expect("written");
    }

    async fn run(&self, arguments: &[&str]) -> Answer {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenantry"));
        command.args(arguments).current_dir(self.folder.path());
        for name in ["DATABASE_URL", "NO_COLOR", "CLICOLOR_FORCE", "PGPASSWORD"] {
            command.env_remove(name);
        }
        if let Some(url) = &self.url {
            command.env("DATABASE_URL", url);
        }
        Answer(command.output().await.expect("it runs"))
    }
}

struct Answer(Output);

impl Answer {
    fn code(&self) -> i32 {
        self.0.status.code().expect("it ended by itself")
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.0.stdout).expect("text")
    }

    fn errors(&self) -> &str {
        std::str::from_utf8(&self.0.stderr).expect("text")
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.0.stdout).expect("JSON")
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:\n{}\n{}", self.code(), self.text(), self.errors())
    }
}

/// What the `audit` of these tests is told.
const AUDIT: [&str; 3] = ["audit", "--role", "app"];

async fn sound_world() -> World {
    let world = world(&[]).await;
    let mut admin = world.admin().await;
    // What PostgreSQL 14 grants by itself is a finding there.
    admin
        .execute("DROP TABLE plain; REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        .await
        .expect("sound");
    world
}

#[tokio::test]
async fn nothing_is_found_in_a_sound_database() {
    let world = sound_world().await;
    let answer = Desk::of(&world).run(&AUDIT).await;
    assert_eq!(answer.code(), 0, "{answer:?}");
    let last = answer.text().lines().last().expect("a line");
    assert!(
        last.starts_with("0 critical, 0 high, 0 medium, 0 low"),
        "{answer:?}"
    );
    assert!(
        !answer.text().contains('\x1b'),
        "a pipe has no colours: {answer:?}"
    );
}

#[tokio::test]
async fn what_is_found_is_mended_by_what_is_printed() {
    let world = sound_world().await;
    let mut admin = world.admin().await;
    let open = "GRANT TRUNCATE ON notes TO app";
    admin.execute(open).await.expect("a hole");
    let desk = Desk::of(&world);

    let answer = desk.run(&AUDIT).await;
    assert_eq!(answer.code(), 1, "{answer:?}");
    assert!(
        answer
            .text()
            .contains("high privilege-truncate: public.notes"),
        "{answer:?}"
    );
    let coloured = desk
        .run(&[&AUDIT[..], &["--color", "always"]].concat())
        .await;
    assert!(coloured.text().contains("\x1b["), "{coloured:?}");
    let answer = desk
        .run(&[&AUDIT[..], &["--fail-on", "critical"]].concat())
        .await;
    assert_eq!(answer.code(), 0, "it is less than that: {answer:?}");

    let answer = desk
        .run(&[&AUDIT[..], &["--format", "json"]].concat())
        .await;
    assert_eq!(answer.code(), 1);
    let report = answer.json();
    assert_eq!(report["counts"]["high"], 1, "{report}");
    let finding = &report["findings"][0];
    assert_eq!(finding["rule"], "privilege-truncate");
    assert_eq!(finding["object"], "public.notes");
    assert_eq!(
        finding["page"],
        "docs/audit/privileges.md#privilege-truncate"
    );

    let answer = desk.run(&[&AUDIT[..], &["--format", "sql"]].concat()).await;
    assert_eq!(answer.code(), 1);
    let script = answer.text().to_owned();
    assert!(
        script.starts_with("-- high privilege-truncate: public.notes\n"),
        "{script}"
    );
    admin
        .execute(sqlx::AssertSqlSafe(script))
        .await
        .expect("it is SQL");
    assert_eq!(desk.run(&AUDIT).await.code(), 0);
}

/// By what SARIF 2.1.0 says that must be there, and what viewers go by.
#[tokio::test]
async fn sarif_names_rule_object_and_reason() {
    let world = sound_world().await;
    let mut admin = world.admin().await;
    let open = "ALTER TABLE notes DISABLE ROW LEVEL SECURITY; GRANT TRUNCATE ON notes TO app";
    admin.execute(open).await.expect("two holes");
    let desk = Desk::of(&world);
    desk.write(
        "application_role = \"app\"\n[[audit.allow]]\nrule = \"privilege-truncate\"\n\
         object = \"public.notes\"\nreason = \"only for a test\"\nuntil = \"9999-12-31\"\n",
    );
    let answer = desk.run(&["audit", "--format", "sarif"]).await;
    assert_eq!(answer.code(), 1, "{answer:?}");
    let log = answer.json();
    assert_eq!(log["version"], "2.1.0");
    let run = &log["runs"][0];
    let driver = &run["tool"]["driver"];
    assert_eq!(driver["name"], "tenantry");
    assert_eq!(run["invocations"][0]["executionSuccessful"], true);
    let results = run["results"].as_array().expect("results");
    let of = |rule: &str| {
        let found: Vec<_> = results.iter().filter(|one| one["ruleId"] == rule).collect();
        assert_eq!(found.len(), 1, "{rule}: {log:#}");
        found[0]
    };
    let open = of("table-rls-disabled");
    assert_eq!(open["level"], "error");
    assert!(open.get("suppressions").is_none());
    let location = &open["locations"][0];
    assert_eq!(
        location["logicalLocations"][0]["fullyQualifiedName"],
        "public.notes"
    );
    let file = &location["physicalLocation"]["artifactLocation"]["uri"];
    assert_eq!(file, "tenantry.toml");
    let allowed = of("privilege-truncate");
    assert_eq!(
        allowed["suppressions"][0]["justification"],
        "only for a test"
    );
    for result in results {
        let number = result["ruleIndex"].as_u64().expect("a number") as usize;
        assert_eq!(driver["rules"][number]["id"], result["ruleId"]);
        assert!(result["message"]["text"].is_string());
    }
}

/// Who is no member of the application role cannot evaluate its policies, and must not be told that
/// all is well.
#[tokio::test]
async fn what_was_not_seen_is_no_success() {
    let world = sound_world().await;
    let mut admin = world.admin().await;
    admin
        .execute(
            "DO $$ BEGIN \
               IF to_regrole('visitor') IS NULL THEN CREATE ROLE visitor LOGIN; END IF; \
             END $$; \
             CREATE TABLE open (tenant_id text NOT NULL); \
             ALTER TABLE open ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; \
             CREATE POLICY p ON open USING (tenant_id = \
               (SELECT current_setting('app.tenant_id', true)) OR length(tenant_id) = 3); \
             GRANT SELECT ON open TO app",
        )
        .await
        .expect("a hole that has to be evaluated");
    assert_eq!(
        Desk::of(&world).run(&AUDIT).await.code(),
        1,
        "the superuser sees it"
    );

    let mut desk = Desk::of(&world);
    let visitor = world.admin.clone().username("visitor");
    desk.url = Some(visitor.to_url_lossy().to_string());
    let answer = desk.run(&AUDIT).await;
    assert_eq!(answer.code(), 3, "{answer:?}");
    assert!(
        answer.text().contains("not seen public.open: "),
        "{answer:?}"
    );
    assert!(answer.text().contains("GRANT app TO"), "{answer:?}");
    let answer = desk
        .run(&[&AUDIT[..], &["--format", "json"]].concat())
        .await;
    let report = answer.json();
    let unseen = report["unseen"].as_array().expect("a list");
    let is_named = unseen.iter().any(|one| one["object"] == "public.open");
    assert!(is_named, "{report}");

    // What no role but a superuser sees, somebody may say not to look at.
    admin
        .execute("DROP TABLE open; GRANT app TO visitor")
        .await
        .expect("sound");
    let answer = desk.run(&AUDIT).await;
    assert_eq!(answer.code(), 3, "{answer:?}");
    desk.write(
        "[[audit.allow]]\nrule = \"unseen\"\nobject = \"pg_statistic\"\nreason = \"by hand\"",
    );
    let answer = desk.run(&AUDIT).await;
    assert_eq!(answer.code(), 0, "{answer:?}");
    let line = "allowed unseen: pg_statistic (by hand)";
    assert!(answer.text().contains(line), "{answer:?}");
    let answer = Desk {
        url: Some(world.admin.to_url_lossy().to_string()),
        ..desk
    };
    let answer = answer.run(&AUDIT).await;
    assert!(answer.text().contains("allowance not needed"), "{answer:?}");
}

#[tokio::test]
async fn allowances_end() {
    let world = sound_world().await;
    let mut admin = world.admin().await;
    let open = "GRANT TRUNCATE ON notes TO app";
    admin.execute(open).await.expect("a hole");
    let desk = Desk::of(&world);
    let allow = |until: &str| {
        desk.write(&format!(
            "application_role = \"app\"\n[[audit.allow]]\nrule = \"privilege-truncate\"\n\
             object = \"public.notes\"\nreason = \"archived by night\"\nuntil = \"{until}\"\n",
        ));
    };
    allow("9999-12-31");
    let answer = desk.run(&["audit"]).await;
    assert_eq!(answer.code(), 0, "{answer:?}");
    let line = "allowed privilege-truncate: public.notes (archived by night)";
    assert!(answer.text().contains(line), "{answer:?}");
    allow("2026-01-31");
    let answer = desk.run(&["audit"]).await;
    assert_eq!(answer.code(), 1, "{answer:?}");
    assert!(answer.text().contains("allowance expired"), "{answer:?}");
    allow("the day after tomorrow");
    let answer = desk.run(&["audit"]).await;
    assert_eq!(answer.code(), 2, "{answer:?}");
}

const SHOP: &str = r#"
application_role = "app"
tenant_column = "firm"
tenant_type = "bigint"
tenant_setting = "shop.firm"
user_setting = "shop.clerk"
tables = ["orders", "lines"]
reference_tables = ["countries"]
authorization = true
number_series = true
trail = true
"#;

const SHOP_TABLES: &str = "REVOKE CREATE ON SCHEMA public FROM PUBLIC; \
    CREATE TABLE orders (firm bigint NOT NULL, id bigint, PRIMARY KEY (firm, id)); \
    CREATE TABLE lines (id uuid PRIMARY KEY); \
    CREATE TABLE countries (code text PRIMARY KEY)";

#[tokio::test]
async fn what_is_installed_passes_the_audit() {
    let world = empty_world().await;
    world
        .admin()
        .await
        .execute(SHOP_TABLES)
        .await
        .expect("tables");
    let desk = Desk::of(&world);
    desk.write(SHOP);
    let before = desk.run(&["audit"]).await;
    for _ in 0..2 {
        let answer = desk.run(&["install"]).await;
        assert_eq!(answer.code(), 0, "{answer:?}");
        for line in [
            "installed the schema tenantry",
            "installed orders: each row is a tenant's",
            "installed countries: for all tenants to read",
            "installed the audit log",
        ] {
            assert!(answer.text().contains(line), "{line}: {answer:?}");
        }
    }
    let after = desk.run(&["audit"]).await;
    assert_eq!(after.code(), 0, "{before:?}\n{after:?}");
}

/// Run by another tool, it does the same.
#[tokio::test]
async fn what_is_printed_is_what_is_installed() {
    let world = empty_world().await;
    let mut admin = world.admin().await;
    admin.execute(SHOP_TABLES).await.expect("tables");
    let desk = Desk::without_database();
    desk.write(SHOP);
    let answer = desk.run(&["sql"]).await;
    assert_eq!(answer.code(), 0, "{answer:?}");
    let script = answer.text().to_owned();
    admin
        .execute(sqlx::AssertSqlSafe(script))
        .await
        .expect("it is SQL");
    let mut connected = Desk::of(&world);
    connected.folder = desk.folder;
    let answer = connected.run(&["audit"]).await;
    assert_eq!(answer.code(), 0, "{answer:?}");
    // One table, and nothing else.
    let answer = connected.run(&["sql", "lines"]).await;
    assert!(
        answer
            .text()
            .starts_with("-- lines: each row is a tenant's\n"),
        "{answer:?}"
    );
    assert_eq!(
        answer.text().matches("DO $tenantry$").count(),
        1,
        "{answer:?}"
    );
}

/// From plain to sealed and back, by the command alone.
#[tokio::test]
async fn a_database_is_sealed_and_unsealed() {
    let world = empty_world().await;
    let mut admin = world.admin().await;
    admin.execute(SHOP_TABLES).await.expect("tables");
    let desk = Desk::of(&world);
    std::fs::write(desk.folder.path().join("k1"), "0penSesame".repeat(4)).expect("written");
    let add = ["key", "add", "k1", "--secret-file", "k1"];
    let answer = desk.run(&add).await;
    assert_eq!(answer.code(), 2, "there is no installation: {answer:?}");

    desk.write(&format!("{SHOP}seal = \"prepared\""));
    for arguments in [&["install"][..], &add, &add] {
        let answer = desk.run(arguments).await;
        assert_eq!(answer.code(), 0, "{answer:?}");
    }
    desk.write(&format!("{SHOP}seal = \"sealed\""));
    for arguments in [&["install"][..], &["key", "rotate-server"], &["audit"]] {
        let answer = desk.run(arguments).await;
        assert_eq!(answer.code(), 0, "{answer:?}");
    }
    let keys: Vec<String> = sqlx::query_scalar("SELECT id FROM tenantry.signing_keys")
        .fetch_all(&mut admin)
        .await
        .expect("keys");
    assert_eq!(keys, ["k1"]);

    desk.write(SHOP);
    let answer = desk.run(&["install"]).await;
    assert_eq!(answer.code(), 2, "{answer:?}");
    assert!(answer.errors().contains("sealed"), "{answer:?}");
    for (code, arguments) in [
        (0, &["install", "--unseal"][..]),
        (0, &["audit"]),
        (0, &["key", "retire", "k1"]),
        (2, &["key", "retire", "k1"]),
        (2, &["key", "add", "k2"]),
        (2, &["key", "add", "k2", "--secret-file", "absent"]),
        (
            2,
            &[
                "key",
                "add",
                "k2",
                "--secret-variable",
                "TENANTRY_NO_SUCH_VARIABLE",
            ],
        ),
    ] {
        let answer = desk.run(arguments).await;
        assert_eq!(answer.code(), code, "{arguments:?}: {answer:?}");
        assert!(!format!("{answer:?}").contains("0penSesame"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_probe_is_of_the_database_that_is_named() {
    let world = sound_world().await;
    let mut admin = world.admin().await;
    let desk = Desk::of(&world);
    let name = world.admin.get_database().expect("a name");
    let probe = ["probe", name, "--role", "app", "--functions"];
    let answer = desk.run(&probe).await;
    assert_eq!(answer.code(), 0, "{answer:?}");
    // What no catalog tells: the function's body is a text.
    let open = "CREATE FUNCTION everybodys() RETURNS SETOF text LANGUAGE plpgsql SECURITY DEFINER \
                SET search_path = pg_catalog, pg_temp AS $$ BEGIN \
                RETURN QUERY SELECT body FROM public.notes; END $$";
    admin.execute(open).await.expect("a hole");
    let answer = desk.run(&probe).await;
    assert_eq!(answer.code(), 1, "{answer:?}");
    assert!(answer.text().contains("everybodys"), "{answer:?}");
    let answer = desk.run(&["probe", "another", "--role", "app"]).await;
    assert_eq!(answer.code(), 2, "{answer:?}");
    assert!(answer.errors().contains("another"), "{answer:?}");
    assert_eq!(desk.run(&["probe"]).await.code(), 2);
}

#[tokio::test]
async fn what_is_missing_is_said_and_no_password() {
    let world = empty_world().await;
    let mut desk = Desk::of(&world);
    let expect = |answer: &Answer, words: &str| {
        assert_eq!(answer.code(), 2, "{answer:?}");
        assert!(answer.errors().contains(words), "{words}: {answer:?}");
        assert!(answer.text().is_empty(), "{answer:?}");
    };
    expect(&desk.run(&["audit"]).await, "--role");
    expect(
        &desk.run(&["audit", "--role", "nobody-has-it"]).await,
        "nobody-has-it",
    );
    expect(
        &desk.run(&["install", "--role", "nobody_has_it"]).await,
        "create it first",
    );
    expect(
        &desk
            .run(&["install", "--role", "app", "no_such_table"])
            .await,
        "no_such_table",
    );
    expect(
        &desk.run(&["audit", "--fail-on", "much"]).await,
        "info, low, medium, high or critical",
    );
    expect(
        &desk.run(&["audit", "--config", "absent.toml"]).await,
        "absent.toml cannot be read",
    );
    desk.write("application_role = \"app\"\ntenant_colum = \"firm\"");
    expect(&desk.run(&["audit"]).await, "tenant_colum");
    desk.write("application_role = \"app\"");
    for url in [
        "postgres://app:0penSesame@127.0.0.1:notaport/x",
        "postgres://app:0penSesame@127.0.0.1:1/x",
        "app:0penSesame",
    ] {
        desk.url = Some(url.to_owned());
        let answer = desk.run(&["audit"]).await;
        expect(&answer, "error:");
        assert!(!answer.errors().contains("0penSesame"), "{answer:?}");
    }
    let answer = desk.run(&["--help"]).await;
    assert_eq!(answer.code(), 0);
    assert!(answer.text().contains("Exit codes"), "{answer:?}");
    assert!(!answer.text().contains("0penSesame"), "{answer:?}");
}

#[tokio::test]
async fn rules_are_listed() {
    let desk = Desk::without_database();
    let answer = desk.run(&["rules"]).await;
    assert_eq!(answer.code(), 0);
    let listed = desk.run(&["rules", "--format", "json"]).await.json();
    let listed = listed.as_array().expect("a list");
    assert_eq!(listed.len(), tenantry::audit::Rule::all().count());
    assert_eq!(listed.len(), answer.text().lines().count());
    assert!(
        listed
            .iter()
            .all(|rule| answer.text().contains(rule["id"].as_str().expect("an id")))
    );
}
