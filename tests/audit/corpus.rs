//! The databases of `corpus/`: a sound one, and what was done to copies of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, PgConnection, PgPool, Row as _};
use tenantry::audit::AuditConfig;
use tenantry::testing::PostgresServer;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Before PostgreSQL 15 nobody is granted a parameter, and no view has the rights of who asks it.
const SINCE_15: &[&str] = &["g01", "y09"];

/// From PostgreSQL 16 on CREATEROLE administers the roles that it made, and no others.
const UNTIL_15: &[&str] = &["r07"];

/// Designs of the corpus that look wrong and are not.
pub(crate) const SOUND: &[&str] = &[
    "t04", "t07b", "t12b", "v03b", "v10", "v11", "v12", "v13b", "k11", "k13", "s02", "s07", "s20",
    "s21", "p02", "d03", "q05", "y01", "y02", "y03", "y04", "y05", "y06", "y07", "y08", "y09",
    "y10", "o11", "o12", "o13", "o14",
];

/// What the auditor is told of all of them.
fn config() -> AuditConfig {
    AuditConfig::new("rls_app")
        .tenant_column("tenant_id", "app.tenant_id")
        .setting("app.user_id")
        .tenants_table("app.tenant", "id")
}

/// And what is in the section `config` of one: `key | column | setting`, `column | table | column` or
/// `global | table` in each line.
fn configured(section: &str) -> AuditConfig {
    let lines = section.lines().filter(|line| !line.trim().is_empty());
    lines.fold(config(), |config, line| {
        let words: Vec<_> = line.split('|').map(str::trim).collect();
        match words[..] {
            ["key", column, setting] => config.tenant_column(column, setting),
            ["column", table, column] => config.tenant_column_of(table, column),
            ["global", table] => config.global_table(table),
            _ => panic!("{line}"),
        }
    })
}

/// A server of its own: the holes change roles, which belong to the whole server.
pub(crate) struct Bench {
    server: PostgresServer,
}

/// One database, and what is in its file.
pub(crate) struct Specimen<'b> {
    bench: &'b Bench,
    name: String,
    attack: Vec<Step>,
    config: AuditConfig,
    pool: PgPool,
}

/// Statements, and as whom they are run.
#[derive(Clone, Debug)]
struct Step {
    role: String,
    /// While the next ones are run.
    meanwhile: bool,
    statements: Vec<String>,
}

const ROLES: &str = "\
DO $$ DECLARE r record; BEGIN
  FOR r IN SELECT g.rolname AS of, m.rolname AS member FROM pg_auth_members AS x JOIN pg_roles AS g ON g.oid = x.roleid
    JOIN pg_roles AS m ON m.oid = x.member WHERE m.rolname LIKE 'rls\\_%' LOOP
    EXECUTE format('REVOKE %I FROM %I', r.of, r.member);
  END LOOP;
END $$;
ALTER ROLE rls_app NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOCREATEDB NOREPLICATION INHERIT LOGIN;
ALTER ROLE rls_app RESET ALL;
DO $$ DECLARE r text; BEGIN
  IF current_setting('server_version_num')::int >= 150000 THEN -- what is granted of parameters is the server's
    FOR r IN SELECT parname FROM pg_parameter_acl LOOP
      EXECUTE format('REVOKE ALL ON PARAMETER %I FROM rls_app', r);
    END LOOP;
  END IF;
END $$;
DO $$ DECLARE r text; BEGIN
  FOR r IN SELECT rolname FROM pg_roles WHERE rolname LIKE 'rls\\_%' AND rolname NOT IN ('rls_app', 'rls_owner', 'rls_admin') LOOP
    EXECUTE format('DROP ROLE %I', r);
  END LOOP;
END $$;";

impl Bench {
    pub(crate) async fn new() -> Self {
        let server = PostgresServer::builder()
            .setting("wal_level", "logical")
            .setting("max_prepared_transactions", "5")
            .setting("shared_preload_libraries", "pg_stat_statements")
            .start()
            .await
            .expect("these tests need PostgreSQL: run ./scripts/test");
        let bench = Self { server };
        bench
            .admin(
                "CREATE ROLE rls_owner NOLOGIN; CREATE ROLE rls_app LOGIN; \
                 CREATE ROLE rls_admin NOLOGIN BYPASSRLS",
            )
            .await;
        let base = bench
            .server
            .create_database("base")
            .await
            .expect("a database");
        let mut connection = base.connect().await.expect("connected");
        let sql = std::fs::read_to_string(folder().join("base.sql")).expect("a file");
        run(&mut connection, &sql).await.expect("the base");
        bench
    }

    /// A copy of the base, with this hole; `None` where the server is of a version that does not have it,
    /// or lacks an extension that it needs.
    pub(crate) async fn specimen(&self, id: &str) -> Option<Specimen<'_>> {
        match self.server.version() {
            ..150_000 if SINCE_15.contains(&id) => return None,
            160_000.. if UNTIL_15.contains(&id) => return None,
            _ => {}
        }
        self.admin(ROLES).await;
        let name = format!("hole_{id}");
        self.admin(&format!("CREATE DATABASE {name} TEMPLATE base"))
            .await;
        let options = self.options(&name);
        let text = std::fs::read_to_string(folder().join(format!("{id}.sql"))).expect("a file");
        let text = text
            .replace("{host}", options.get_host())
            .replace("{port}", &options.get_port().to_string())
            .replace("{database}", &name);
        let (setup, attack) = match id {
            "base" => (String::new(), Vec::new()),
            _ => {
                let attack = section(&text, "attack");
                (section(&text, "setup"), steps(&attack))
            }
        };
        let mut connection = options.clone().connect().await.expect("connected");
        if let Some(extension) = extension(&setup)
            && !self.has_extension(&mut connection, extension).await
        {
            println!("{id}: the server has no extension {extension}");
            self.admin(&format!("DROP DATABASE {name}")).await;
            return None;
        }
        for statement in statements(&setup) {
            run(&mut connection, &statement).await.expect(id);
        }
        Some(Specimen {
            bench: self,
            attack,
            config: configured(&section(&text, "config")),
            pool: PgPoolOptions::new()
                .max_connections(1)
                .connect_lazy_with(options),
            name,
        })
    }

    async fn has_extension(&self, connection: &mut PgConnection, name: &str) -> bool {
        let query = "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = $1)";
        let there = sqlx::query_scalar(query).bind(name).fetch_one(connection);
        there.await.expect("asked")
    }

    fn options(&self, database: &str) -> PgConnectOptions {
        self.server.connect_options().database(database)
    }

    async fn admin(&self, sql: &str) {
        let mut connection = self.options("postgres").connect().await.expect("connected");
        for statement in statements(sql) {
            run(&mut connection, &statement).await.expect("done");
        }
    }
}

impl Specimen<'_> {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// For programs of others, as a superuser.
    pub(crate) fn url(&self) -> String {
        self.bench.options(&self.name).to_url_lossy().to_string()
    }

    /// What the auditor is told of it.
    pub(crate) fn config(&self) -> AuditConfig {
        self.config.clone()
    }

    /// As a superuser.
    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// As somebody else; to be closed before the specimen is dropped.
    #[allow(dead_code, reason = "one of the tests asks")]
    pub(crate) fn pool_of(&self, role: &str) -> PgPool {
        PgPoolOptions::new()
            .max_connections(1)
            .connect_lazy_with(self.bench.options(&self.name).username(role))
    }

    pub(crate) async fn run_as_superuser(&self, sql: &str) -> Result<(), sqlx::Error> {
        let mut connection = self.bench.options(&self.name).connect().await?;
        run(&mut connection, sql).await.map(|_| ())
    }

    /// `LEAK | why` or `SAFE | why`. What is refused on the way is part of it.
    pub(crate) async fn attack(&self) -> String {
        let mut meanwhile = JoinSet::new();
        let mut verdict = "???? | the attack says nothing".to_owned();
        for step in &self.attack {
            let options = self.bench.options(&self.name).username(&step.role);
            let mut connection = match options.connect().await {
                Ok(connection) => connection,
                Err(error) => {
                    verdict = format!("SAFE | no connection: {error}");
                    continue;
                }
            };
            let step = step.clone();
            if step.meanwhile {
                meanwhile.spawn(async move {
                    for statement in &step.statements {
                        let _ = run(&mut connection, statement).await;
                    }
                });
                sleep(Duration::from_millis(400)).await;
                continue;
            }
            let mut last = None;
            for statement in &step.statements {
                match run(&mut connection, statement).await {
                    Ok(Some(said)) => last = Some(said),
                    Ok(None) => {}
                    Err(error) => {
                        last.get_or_insert_with(|| format!("SAFE | refused: {error}"));
                    }
                }
            }
            verdict = last.unwrap_or(verdict);
        }
        verdict
    }

    pub(crate) async fn drop(self) {
        self.pool.close().await;
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        self.bench.admin(&drop).await;
        self.bench.admin(ROLES).await;
    }
}

/// Its last verdict, if it has one.
async fn run(connection: &mut PgConnection, sql: &str) -> Result<Option<String>, sqlx::Error> {
    let rows = connection.fetch_all(AssertSqlSafe(sql)).await?;
    let texts = rows
        .iter()
        .filter_map(|row| row.try_get::<String, _>(0).ok());
    Ok(texts
        .filter(|text| text.starts_with("LEAK") || text.starts_with("SAFE"))
        .last())
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/audit/corpus")
}

/// What stands between `--- name` and the next section.
fn section(text: &str, name: &str) -> String {
    const SECTIONS: [&str; 4] = ["--- config", "--- setup", "--- attack", "--- fix"];
    let heading = format!("--- {name}");
    text.lines()
        .skip_while(|line| *line != heading)
        .skip(1)
        .take_while(|line| !SECTIONS.contains(line))
        .collect::<Vec<_>>()
        .join("\n")
}

/// `--- as role` begins a connection; what stands before the first one is run as a superuser.
fn steps(attack: &str) -> Vec<Step> {
    let mut steps: Vec<(String, bool, String)> =
        vec![("postgres".to_owned(), false, String::new())];
    for line in attack.lines() {
        let (meanwhile, rest) = match line.strip_prefix("--- meanwhile as ") {
            Some(role) => (true, Some(role)),
            None => (false, line.strip_prefix("--- as ")),
        };
        match rest {
            Some(role) => steps.push((role.trim().to_owned(), meanwhile, String::new())),
            None => {
                let last = steps.last_mut().expect("there is one");
                last.2 += line;
                last.2.push('\n');
            }
        }
    }
    steps
        .into_iter()
        .map(|(role, meanwhile, text)| Step {
            role,
            meanwhile,
            statements: statements(&text),
        })
        .filter(|step| !step.statements.is_empty())
        .collect()
}

fn extension(setup: &str) -> Option<&str> {
    let (_, behind) = setup.split_once("CREATE EXTENSION ")?;
    behind.split([' ', ';']).next()
}

/// One after the other: together they would be one transaction.
fn statements(text: &str) -> Vec<String> {
    let mut statements = vec![String::new()];
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '\'' | '"' => 2 + rest[1..].find(c).unwrap_or(rest.len() - 2),
            '$' => dollar_quoted(rest).unwrap_or(1),
            _ => c.len_utf8(),
        };
        let (piece, behind) = rest.split_at(length);
        rest = behind;
        let last = statements.last_mut().expect("there is one");
        match piece {
            ";" => statements.push(String::new()),
            _ if piece.starts_with("--") => last.push(' '),
            _ => last.push_str(piece),
        }
    }
    statements.retain(|statement| !statement.trim().is_empty());
    statements
}

fn dollar_quoted(text: &str) -> Option<usize> {
    let tag = 2 + text[1..].find('$')?;
    let is_tag = text[1..tag - 1]
        .chars()
        .all(|c| c == '_' || c.is_alphanumeric());
    let end = is_tag.then(|| text[tag..].find(&text[..tag])).flatten()?;
    Some(tag + end + tag)
}

/// The names of all files.
#[allow(dead_code, reason = "one of the tests asks")]
pub(crate) fn ids() -> std::collections::BTreeSet<String> {
    let files = std::fs::read_dir(folder()).expect("the folder");
    let name = |file: std::io::Result<std::fs::DirEntry>| {
        let path = file.expect("a file").path();
        path.file_stem()
            .map(|name| name.to_string_lossy().into_owned())
    };
    files.filter_map(name).collect()
}
