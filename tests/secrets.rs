//! Guarantee 8: nothing secret in what is logged, nor in what our types show of themselves.

mod support;

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use futures_util::StreamExt as _;
use sqlx::Executor as _;
use support::{notes, tenant, world};
use tenantry::sql::Installation;
use tenantry::{ContextSettings, Error, StaticDirectory, TenantContext, TenantRegistry};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Everything that anybody logs, at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push_str(&format!(" {field}={value:?}"));
    }
}

impl Log {
    fn write(&self, metadata: &Metadata<'_>, record: impl FnOnce(&mut Line<'_>)) {
        let mut text = self.0.lock().expect("no panic");
        text.push_str(metadata.target());
        record(&mut Line(&mut text));
        text.push('\n');
    }

    /// One for both tests: what is logged is decided once for a process.
    fn of_this_process() -> Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        LOG.get_or_init(|| {
            let log = Self::default();
            tracing::subscriber::set_global_default(log.clone()).expect("nobody else did");
            log
        })
        .clone()
    }

    fn text(&self) -> String {
        self.0.lock().expect("no panic").clone()
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.write(span.metadata(), |line| span.record(line));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        self.write(event.metadata(), |line| event.record(line));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn nothing_secret_is_logged_or_shown() {
    let names = ContextSettings::default().with("app.role").expect("a name");
    let installation = Installation::new("app").settings(names.clone());
    let world = support::world_with(
        installation.tenant_column("tenant_id", tenantry::sql::TenantType::Text),
        &["a"],
    )
    .await;
    world
        .admin()
        .await
        .execute("CREATE UNIQUE INDEX once ON plain (body)")
        .await
        .expect("an index");
    let log = Log::of_this_process();
    let directory =
        StaticDirectory::new().shared_by_all(world.app.clone().password("hunter2-secret"));
    let mut shown = format!("{directory:?}");
    let builder = TenantRegistry::builder(directory)
        .settings(names)
        .pool_options(|_, o| {
            o.max_connections(1)
                .slow_statement_threshold(Duration::ZERO)
        });
    shown += &format!("{builder:?}");
    let registry = builder.build().await.expect("a registry");
    let context = TenantContext::new(tenant("a"))
        .user("user-secret")
        .setting("app.role", "role-secret");
    let a = registry.scope(context.clone()).await.expect("a scope");
    shown += &format!("{registry:?} {context:?} {a:?}");

    let errors: Vec<sqlx::Error> = {
        let mut tx = a.begin().await.expect("begun");
        sqlx::raw_sql(
            "DO $$ BEGIN RAISE WARNING 'notice-secret'; END $$; \
             INSERT INTO plain VALUES ('row-secret'); SELECT 'text-secret'",
        )
        .execute(&mut tx)
        .await
        .expect("run");
        let twice = sqlx::query("INSERT INTO plain VALUES ($1)")
            .bind("row-secret")
            .execute(&mut tx)
            .await
            .expect_err("once");
        shown += &format!("{tx:?}");
        let failed = tx.commit().await.expect_err("aborted");
        shown += &format!("{failed:?} {failed}");
        let text = "SELECT 'text-secret'::int";
        vec![
            twice,
            sqlx::query(text).execute(&a).await.expect_err("no number"),
            sqlx::query("SET app.role = 'text-secret'")
                .execute(&a)
                .await
                .expect_err("refused"),
            sqlx::query("SELECT 1 AS one, 'text-secret', $1")
                .execute(&a)
                .await
                .expect_err("refused"),
        ]
    };
    for error in errors {
        let error = Error::from(error);
        shown += &format!("{error:?} {error}");
    }
    let mut rows = sqlx::query("SELECT 'text-secret' FROM generate_series(1, 1000)").fetch(&a);
    rows.next().await.expect("a row").expect("a row");
    drop(rows);
    let mut tx = a.begin().await.expect("begun");
    let mut savepoint = tx.savepoint().await.expect("set");
    shown += &format!("{savepoint:?}");
    let plain = savepoint
        .dangerous_connection()
        .await
        .expect("the connection");
    plain.execute("SELECT 'text-secret'").await.expect("run");
    drop(savepoint);
    drop(tx);
    notes(&a).await.expect("served");

    let logged = log.text();
    assert!(
        logged.contains("slow statement"),
        "nothing was logged at all: {logged}"
    );
    for text in [logged, shown] {
        let secret = text.lines().find(|line| line.contains("secret"));
        assert_eq!(secret, None);
    }
}

/// The specimen: sqlx itself logs both the text of a statement and what the server has to say.
#[tokio::test]
async fn sqlx_logs_texts_and_notices() {
    use sqlx::ConnectOptions as _;
    let world = world(&["a"]).await;
    let log = Log::of_this_process();
    let mut plain = world.app.clone().connect().await.expect("connected");
    plain
        .execute("DO $$ BEGIN RAISE WARNING 'a notice'; END $$; SELECT 'a text'")
        .await
        .expect("run");
    for expected in ["a text", "a notice"] {
        assert!(log.text().contains(expected), "{expected}");
    }
}
