//! Guarantee 8: nothing secret is in what this crate prints, nor in what is logged on its way.
//!
//! Whatever is secret here has `c4n4ry` in it, and what the specimens show on purpose `sp3c1m3n`:
//! all tests of this file write into one log.

mod support;

use std::collections::HashSet;
use std::error::Error as StdError;
use std::fmt::{self, Write as _};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, Row as _};
use support::{World, tenant, world_with};
use tenantry::repository::{Cursor, PageRequest};
use tenantry::sql::{Installation, TenantType};
use tenantry::testing::cancelled_after;
use tenantry::{
    CommitError, ContextSettings, Error, ErrorKind, Reader, RetryPolicy, StaticDirectory,
    TenantContext, TenantId, TenantRegistry, TenantScope, TxOptions,
};
use tracing::field::{Field, Visit};
use tracing::span;

const CANARY: &str = "c4n4ry";
const SPECIMEN: &str = "sp3c1m3n";

/// Everything that is logged at INFO and above, through `tracing` and through `log`.
struct Recorder(Mutex<Vec<String>>);

static RECORDER: Recorder = Recorder(Mutex::new(Vec::new()));

fn record() -> &'static Recorder {
    static SET: LazyLock<()> = LazyLock::new(|| {
        tracing::subscriber::set_global_default(Tracing).expect("the only one");
        log::set_logger(&RECORDER).expect("the only one");
        log::set_max_level(log::LevelFilter::Info);
    });
    LazyLock::force(&SET);
    &RECORDER
}

impl Recorder {
    fn push(&self, event: String) {
        self.0
            .lock()
            .expect("no panic while it is held")
            .push(event);
    }

    fn with(&self, text: &str) -> Vec<String> {
        let events = self.0.lock().expect("no panic while it is held");
        let found = events.iter().filter(|event| event.contains(text));
        found.cloned().collect()
    }
}

impl log::Log for Recorder {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Info
    }

    fn log(&self, record: &log::Record<'_>) {
        self.push(format!("{} {}", record.target(), record.args()));
    }

    fn flush(&self) {}
}

struct Tracing;

impl tracing::Subscriber for Tracing {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        let mut line = Line(attributes.metadata().name().to_owned());
        attributes.record(&mut line);
        RECORDER.push(line.0);
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        let mut line = Line(String::new());
        values.record(&mut line);
        RECORDER.push(line.0);
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(event.metadata().target().to_owned());
        event.record(&mut line);
        RECORDER.push(line.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

/// Functions that say more than they should, as triggers and functions of a service do.
async fn loud_world() -> World {
    let settings = ContextSettings::default().with("app.role").expect("a name");
    let installation = Installation::new("app")
        .tenant_column("tenant_id", TenantType::Text)
        .settings(settings);
    let world = world_with(installation, &["a"]).await;
    let mut admin = world.admin().await;
    admin
        .execute(
            "CREATE FUNCTION shout(level text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN \
               RAISE INFO 'c4n4ry info'; \
               RAISE NOTICE 'c4n4ry notice'; \
               RAISE WARNING 'c4n4ry warning'; \
               IF level LIKE 'code %' THEN \
                 RAISE EXCEPTION 'c4n4ry error' USING ERRCODE = substr(level, 6), \
                   DETAIL = 'c4n4ry detail', HINT = 'c4n4ry hint'; \
               END IF; \
               RETURN level; END $$; \
             CREATE FUNCTION shout_late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
               PERFORM shout(new.body); RETURN new; END $$; \
             CREATE CONSTRAINT TRIGGER late AFTER INSERT ON plain DEFERRABLE INITIALLY DEFERRED \
               FOR EACH ROW EXECUTE FUNCTION shout_late(); \
             CREATE TABLE once (body text UNIQUE); GRANT ALL ON once TO app;",
        )
        .await
        .expect("functions");
    world
}

fn secret(world: &World) -> PgConnectOptions {
    world.app.clone().password("c4n4ry password")
}

async fn registry(world: &World) -> TenantRegistry {
    let settings = ContextSettings::default().with("app.role").expect("a name");
    world
        .registry_of(secret(world), settings, |options| {
            options
                .max_connections(1)
                .slow_statement_threshold(Duration::ZERO)
                .abandoned_grace(Duration::from_millis(50))
                .acquire_timeout(Duration::from_secs(30))
        })
        .await
}

async fn scope(registry: &TenantRegistry) -> TenantScope {
    let context = TenantContext::new(tenant("a"))
        .user("c4n4ry user")
        .setting("app.role", "c4n4ry role");
    registry.scope(context).await.expect("a scope")
}

/// Everything a service does to its database, and what can go wrong with it; with the errors.
async fn workload(a: &TenantScope) -> Vec<Error> {
    let mut errors: Vec<Error> = Vec::new();
    sqlx::query("SELECT body, 'c4n4ry sql' FROM notes WHERE body <> $1")
        .bind("c4n4ry bound")
        .fetch_all(a)
        .await
        .expect("rows");
    sqlx::query("SELECT shout('c4n4ry')")
        .execute(a)
        .await
        .expect("shouted");
    for sql in [
        "SELECT 'c4n4ry' FROM nothing_of_this_name",
        "SELECT c4n4ry syntax error",
        "SELECT shout('code 22023')",
        "SELECT shout('code 57014')",
        "INSERT INTO once SELECT 'c4n4ry' FROM generate_series(1, 2)",
        "BEGIN -- c4n4ry",
        "SET app.role = 'c4n4ry'",
        "COPY plain FROM 'c4n4ry'",
        "SELECT 'c4n4ry' WHERE $1",
    ] {
        errors.push(sqlx::query(sql).execute(a).await.expect_err(sql).into());
        let mut tx = a.begin().await.expect("begun");
        errors.push(
            sqlx::query(sql)
                .execute(&mut tx)
                .await
                .expect_err(sql)
                .into(),
        );
        if let Err(error) = tx.commit().await {
            errors.push(error.into());
        }
    }
    let row = sqlx::query("SELECT 'c4n4ry' AS c4n4ry")
        .fetch_one(a)
        .await
        .expect("a row");
    errors.push(row.try_get::<i32, _>(0).expect_err("no number").into());
    errors.push(
        row.try_get::<i32, _>("c4n4ry column")
            .expect_err("none")
            .into(),
    );
    let nothing = sqlx::query("SELECT 1 WHERE $1 = ''")
        .bind("c4n4ry")
        .fetch_one(a)
        .await;
    errors.push(nothing.expect_err("no row").into());
    let mut reader = Reader::from(a);
    let refused = sqlx::query("DELETE FROM notes WHERE body = 'c4n4ry'").execute(&mut reader);
    errors.push(refused.await.expect_err("it only reads").into());

    // A trigger that fails in COMMIT, one that only shouts, and attempts that are repeated.
    for level in ["c4n4ry", "code 40001", "code P0001"] {
        let policy = RetryPolicy::default()
            .max_attempts(3)
            .delays(Duration::ZERO, Duration::ZERO);
        let done = a
            .transaction(TxOptions::default().retry(policy), |tx| {
                Box::pin(async move {
                    sqlx::raw_sql("SELECT 'c4n4ry raw'")
                        .execute(&mut *tx)
                        .await?;
                    sqlx::query("INSERT INTO plain VALUES ($1)")
                        .bind(level)
                        .execute(tx)
                        .await?;
                    Ok::<_, Error>(())
                })
            })
            .await;
        errors.extend(done.err());
    }

    // Traces that are scrubbed, and abandoned work that is rolled back or closed.
    let mut tx = a.begin().await.expect("begun");
    sqlx::query("LISTEN c4n4ry")
        .execute(&mut tx)
        .await
        .expect("listening");
    tx.commit().await.expect("committed");
    for polls in [1, 2, 3] {
        let slow = sqlx::query("SELECT pg_sleep(0.1), 'c4n4ry'").execute(a);
        let _ = cancelled_after(polls, slow).await;
        let mut tx = a.begin().await.expect("begun");
        let slow = sqlx::query("SELECT shout('c4n4ry'), pg_sleep(0.1)").execute(&mut tx);
        let _ = cancelled_after(polls, slow).await;
        drop(tx);
    }
    let mut tx = a.begin().await.expect("begun");
    let mut copy = tx.copy_in_raw("COPY once FROM STDIN").await.expect("begun");
    copy.send(b"c4n4ry\nc4n4ry\n").await.expect("sent");
    errors.push(copy.finish().await.expect_err("twice the same"));
    errors.push(tx.savepoint().await.map(drop).expect_err("aborted"));
    let again = sqlx::query("SELECT 'c4n4ry'").execute(&mut tx).await;
    errors.push(again.expect_err("aborted").into());
    errors.push(tx.commit().await.expect_err("aborted").into());
    errors
}

/// The kinds that a statement does not meet.
async fn other_errors(world: &World, a: &TenantScope) -> Vec<Error> {
    let mut errors = vec![
        "c4n4ry id".parse::<TenantId>().expect_err("a space"),
        ContextSettings::new("C4n4ry c4n4ry", "x.y").expect_err("a space"),
        "c4n4ry".parse::<Cursor>().expect_err("no cursor"),
        PageRequest::default()
            .order("c4n4ry")
            .order_among(&["name"])
            .expect_err("no such order"),
    ];
    let options = TxOptions::default().role("c4n4ry\0");
    errors.push(a.begin_with(&options).await.expect_err("a NUL"));
    let mut admin = world.admin().await;
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                WHERE datname = current_database() AND usename = 'app'";
    let mut tx = a.begin().await.expect("begun");
    admin.execute(kill).await.expect("killed");
    let lost = sqlx::query("SELECT 'c4n4ry'").execute(&mut tx).await;
    errors.push(lost.expect_err("lost").into());
    errors.push(tx.commit().await.expect_err("lost").into());
    let tx = a.begin().await.expect("begun");
    admin.execute(kill).await.expect("killed");
    errors.push(tx.commit().await.expect_err("unknown").into());

    let build = |directory: StaticDirectory| TenantRegistry::builder(directory).build();
    let shared = |options| StaticDirectory::new().shared_by_all(options);
    let gone = secret(world).database("c4n4ry");
    errors.push(build(shared(gone)).await.expect_err("no such database"));
    let superuser = world.admin.clone().password("c4n4ry password");
    errors.push(build(shared(superuser)).await.expect_err("a superuser"));
    let nothing = support::empty_world().await;
    errors.push(build(shared(secret(&nothing))).await.expect_err("empty"));

    let installation = Installation::new("app").database_of(tenant("a"));
    installation
        .install(&mut nothing.admin().await)
        .await
        .expect("installed");
    let wrong = StaticDirectory::new().database(tenant("b"), secret(&nothing));
    errors.push(build(wrong).await.expect_err("a's"));
    let other = Installation::new("app").database_of(tenant("c4n4ry"));
    errors.push(
        other
            .install(&mut nothing.admin().await)
            .await
            .expect_err("a's"),
    );

    let right = StaticDirectory::new().database(tenant("a"), secret(&nothing));
    let registry = TenantRegistry::builder(right)
        .pool_options(|_, options| {
            options
                .max_connections(1)
                .acquire_timeout(Duration::from_secs(5))
        })
        .build()
        .await
        .expect("a registry");
    let unknown = TenantContext::new(tenant("nobody")).user("c4n4ry");
    errors.push(registry.scope(unknown).await.expect_err("unknown"));
    let context = TenantContext::new(tenant("a")).setting("app.role", "c4n4ry");
    errors.push(registry.scope(context).await.expect_err("no such setting"));
    let a = registry.scope(tenant("a")).await.expect("a scope");
    let tx = a.begin().await.expect("begun");
    errors.push(a.begin().await.expect_err("one connection"));
    drop(tx);
    registry.close();
    errors.push(a.begin().await.expect_err("closed"));
    errors
}

const KINDS: [ErrorKind; 20] = [
    ErrorKind::InvalidTenantId,
    ErrorKind::InvalidContext,
    ErrorKind::InvalidOption,
    ErrorKind::TenantUnknown,
    ErrorKind::Misrouted,
    ErrorKind::Installation,
    ErrorKind::Preflight,
    ErrorKind::StatementRefused,
    ErrorKind::AcquireTimeout,
    ErrorKind::Connect,
    ErrorKind::ConnectionLost,
    ErrorKind::TransactionAborted,
    ErrorKind::Commit,
    ErrorKind::Closed,
    ErrorKind::Database,
    ErrorKind::NotFound,
    ErrorKind::Conflict,
    ErrorKind::InvalidCursor,
    ErrorKind::UnknownOrder,
    ErrorKind::Other,
];

fn keeps_silent(name: &str, shown: impl fmt::Debug) {
    let text = format!("{shown:?} {shown:#?}");
    assert!(!text.to_lowercase().contains(CANARY), "{name}: {text}");
}

/// Display is for one layer: what the next one says is not said twice.
fn speaks_for_itself(error: &(dyn StdError + 'static)) {
    let Some(source) = error.source() else {
        return;
    };
    let (outer, inner) = (error.to_string(), source.to_string());
    assert!(!outer.contains(&inner), "{outer:?} holds {inner:?}");
    // sqlx's own errors hold their source's text. From there on it is not ours.
    if source.is::<Error>() || source.is::<CommitError>() {
        speaks_for_itself(source);
    }
}

#[tokio::test]
async fn errors_of_every_kind_keep_secrets_and_their_layer() {
    record();
    let world = loud_world().await;
    let registry = registry(&world).await;
    let a = scope(&registry).await;
    let mut errors = workload(&a).await;
    errors.extend(other_errors(&world, &a).await);

    let seen: HashSet<ErrorKind> = errors.iter().map(Error::kind).collect();
    let missing: Vec<_> = KINDS.iter().filter(|kind| !seen.contains(kind)).collect();
    assert!(missing.is_empty(), "not provoked: {missing:?}");

    let mut secrets_beneath = 0;
    for error in errors {
        keeps_silent("Debug", &error);
        keeps_silent("Display", format_args!("{error}"));
        speaks_for_itself(&error);
        let beneath = |mut layer: &dyn StdError| {
            while let Some(source) = layer.source() {
                if source.to_string().contains(CANARY) {
                    return true;
                }
                layer = source;
            }
            false
        };
        secrets_beneath += usize::from(beneath(&error));
        // On its way through an executor.
        let kind = error.kind();
        let outside = sqlx::Error::from(error);
        keeps_silent("in sqlx's", format_args!("{outside}"));
        assert_eq!(Error::from(outside).kind(), kind);
    }
    assert!(
        secrets_beneath > 5,
        "there was nothing to keep silent about"
    );
}

#[tokio::test]
async fn log_holds_no_secret() {
    let recorder = record();
    let world = loud_world().await;
    let registry = registry(&world).await;
    let a = scope(&registry).await;
    let _ = workload(&a).await;
    let _ = other_errors(&world, &a).await;
    registry.close();
    for expected in ["slow statement", "transaction is tried again"] {
        let heard = recorder.with(expected);
        assert!(
            heard.iter().any(|event| event.starts_with("tenantry::")),
            "{expected:?} is not logged"
        );
    }
    assert_eq!(recorder.with(CANARY), Vec::<String>::new());
}

/// The specimens: what the recorder hears of plain sqlx, and what the options print.
#[tokio::test]
async fn plain_sqlx_tells_what_we_keep() {
    let recorder = record();
    let world = loud_world().await;
    let options = world.app.clone().password("sp3c1m3n");
    assert!(format!("{options:?}").contains(SPECIMEN));
    let options = options.log_slow_statements(log::LevelFilter::Warn, Duration::ZERO);
    let pool = PgPoolOptions::new()
        .connect_with(options)
        .await
        .expect("a pool");
    let say = "DO $$ BEGIN RAISE WARNING 'sp3c1m3n warning'; END $$";
    sqlx::raw_sql(say).execute(&pool).await.expect("said");
    let slow = format!("SELECT '{SPECIMEN} slow'");
    pool.execute(AssertSqlSafe(slow)).await.expect("a row");
    for expected in ["sp3c1m3n warning", "sp3c1m3n slow"] {
        assert!(
            !recorder.with(expected).is_empty(),
            "{expected:?} is not heard"
        );
    }
    let error = pool
        .execute("SELECT sp3c1m3n")
        .await
        .expect_err("no such column");
    assert!(error.to_string().contains(SPECIMEN));
}

#[tokio::test]
async fn public_types_print_no_secret() {
    let world = loud_world().await;
    let directory = StaticDirectory::new()
        .shared_by_all(secret(&world))
        .database(tenant("b"), secret(&world));
    keeps_silent("StaticDirectory", &directory);
    let settings = ContextSettings::default().with("app.role").expect("a name");
    keeps_silent(
        "builder",
        TenantRegistry::builder(directory).settings(settings),
    );
    let registry = registry(&world).await;
    keeps_silent("TenantRegistry", &registry);
    let a = scope(&registry).await;
    keeps_silent("TenantContext", a.context());
    keeps_silent("TenantScope", &a);
    keeps_silent("Reader", Reader::from(&a));
    keeps_silent("TxOptions", TxOptions::default().serializable());
    let mut tx = a.begin().await.expect("begun");
    sqlx::query("SELECT $1, 'c4n4ry'")
        .bind("c4n4ry")
        .execute(&mut tx)
        .await
        .expect("a row");
    keeps_silent("TenantTx", &tx);
    keeps_silent("Reader", Reader::from(&mut tx));
    keeps_silent("TenantSavepoint", tx.savepoint().await.expect("set"));
    let copy = tx
        .copy_in_raw("COPY plain FROM STDIN")
        .await
        .expect("begun");
    keeps_silent("TenantCopyIn", &copy);
    drop(copy);
    keeps_silent("TenantTx that broke", &tx);
    drop(tx);
    let tx = a.begin_read_only().await.expect("begun");
    keeps_silent("TenantReadTx", &tx);
}
