//! A sandbox: tenants of one test, in parallel with others, gone at its end however it ends.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::future::join_all;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgPool};
use tenantry::sql::{Installation, TenantType};
use tenantry::testing::{PostgresServer, Sandbox, SandboxBuilder};
use tenantry::{ErrorKind, NumberSeries, TenantContext, TenantScope, Trail, TrailEntry};
use tokio::sync::OnceCell;

static SERVER: OnceCell<PostgresServer> = OnceCell::const_new();

async fn server() -> &'static PostgresServer {
    let start = || async {
        PostgresServer::builder()
            .setting("max_connections", "200")
            .start()
            .await
            .expect("PostgreSQL: run ./scripts/test")
    };
    SERVER.get_or_init(start).await
}

fn name(what: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("{what}_{}_{number}", std::process::id())
}

async fn run(options: &PgConnectOptions, sql: &str) {
    let options = options.clone().disable_statement_logging();
    let mut connection = options.connect().await.expect("a connection");
    if let Err(error) = sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(&mut connection)
        .await
    {
        panic!("{sql}: {error}");
    }
    connection.close().await.expect("closed");
}

/// The number in the first column of the first row.
async fn count(options: &PgConnectOptions, sql: &str) -> i64 {
    let options = options.clone().disable_statement_logging();
    let mut connection = options.connect().await.expect("a connection");
    let query = sqlx::query_scalar(AssertSqlSafe(sql));
    let count = query.fetch_one(&mut connection).await.expect("a count");
    connection.close().await.expect("closed");
    count
}

/// How many roles of sandboxes there are that are members of this application role.
async fn roles(options: &PgConnectOptions, role: &str) -> i64 {
    let sql = format!(
        "SELECT count(*) FROM pg_auth_members AS m JOIN pg_roles AS r ON r.oid = m.roleid WHERE r.rolname = '{role}'"
    );
    count(options, &sql).await
}

/// A database that tests share, with tables that make it hard to delete from.
struct Shared {
    options: PgConnectOptions,
    installation: Installation,
    role: String,
}

const TABLES: &str = "
    CREATE TABLE orders (tenant_id uuid NOT NULL, id int, PRIMARY KEY (tenant_id, id));
    CREATE TABLE lines (tenant_id uuid NOT NULL, \"order\" int NOT NULL, body text,
        FOREIGN KEY (tenant_id, \"order\") REFERENCES orders);
    CREATE TABLE parts (line_of uuid, \"order\" int,
        FOREIGN KEY (line_of, \"order\") REFERENCES orders ON DELETE CASCADE);
    CREATE TABLE journal (tenant_id uuid NOT NULL, body text);
    CREATE FUNCTION for_ever() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'what is booked stays'; END $$;
    CREATE TRIGGER for_ever BEFORE DELETE ON journal FOR EACH ROW EXECUTE FUNCTION for_ever();";

impl Shared {
    async fn new() -> Self {
        let role = name("app");
        let options = server()
            .await
            .create_database(&name("shared"))
            .await
            .expect("a database");
        run(
            &options,
            &format!("CREATE ROLE {role}; {TABLES}; GRANT ALL ON parts TO {role}"),
        )
        .await;
        let installation = Installation::new(&role).tenant_column("tenant_id", TenantType::Uuid);
        let mut owner = options.connect().await.expect("a connection");
        installation.install(&mut owner).await.expect("installed");
        installation
            .authorization()
            .apply(&mut owner)
            .await
            .expect("applied");
        installation
            .number_series()
            .apply(&mut owner)
            .await
            .expect("applied");
        installation
            .trail()
            .apply(&mut owner)
            .await
            .expect("applied");
        for table in ["orders", "lines", "journal"] {
            installation
                .table(table)
                .apply(&mut owner)
                .await
                .expect("policies");
        }
        owner.close().await.expect("closed");
        Self {
            options,
            installation,
            role,
        }
    }

    async fn sandbox(&self) -> Sandbox {
        let sandbox = Sandbox::of(self.installation.clone());
        sandbox.shared(&self.options).await.expect("a sandbox")
    }

    async fn rows(&self) -> i64 {
        let tables = [
            "orders",
            "lines",
            "parts",
            "journal",
            "tenantry.members",
            "tenantry.authorization_epochs",
            "tenantry.number_series",
            "tenantry.trail",
            "tenantry.trail_heads",
        ];
        let counts = tables.map(|table| format!("(SELECT count(*) FROM {table})"));
        count(&self.options, &format!("SELECT {}", counts.join(" + "))).await
    }

    async fn is_clean(&self) {
        assert_eq!(
            (self.rows().await, roles(&self.options, &self.role).await),
            (0, 0)
        );
    }
}

/// Work that commits, in every table there is.
async fn work(scope: &TenantScope) {
    let mut tx = scope.begin().await.expect("a transaction");
    for statement in [
        "INSERT INTO orders (id) VALUES (1), (2)",
        "INSERT INTO lines (\"order\", body) VALUES (1, 'a'), (1, 'b')",
        "INSERT INTO parts SELECT tenant_id, id FROM orders",
        "INSERT INTO journal (body) VALUES ('booked')",
        "INSERT INTO tenantry.members (user_id) VALUES ('ann')",
    ] {
        sqlx::query(statement)
            .execute(&mut tx)
            .await
            .expect("a row");
    }
    let series = NumberSeries::new("invoices");
    series.next(&mut tx).await.expect("a number");
    Trail::record(&mut tx, &TrailEntry::new("booked"))
        .await
        .expect("recorded");
    tx.commit().await.expect("committed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tests_in_parallel_do_not_meet_and_leave_nothing() {
    let shared = Shared::new().await;
    join_all((0..8).map(|_| async {
        let sandbox = shared.sandbox().await;
        let tenants =
            [sandbox.tenant().await, sandbox.tenant().await].map(|t| t.expect("a tenant"));
        for tenant in &tenants {
            work(tenant).await;
        }
        for tenant in &tenants {
            let orders: i64 = sqlx::query_scalar("SELECT count(*) FROM orders")
                .fetch_one(tenant)
                .await
                .expect("a count");
            assert_eq!(orders, 2);
        }
        sandbox.close().await.expect("closed");
        let later = sqlx::query("SELECT 1").execute(&tenants[0]).await;
        assert_eq!(
            later.err().map(|error| tenantry::Error::from(error).kind()),
            Some(ErrorKind::Closed)
        );
    }))
    .await;
    shared.is_clean().await;
}

/// Rows that are somebody else's stay.
#[tokio::test]
async fn nobody_elses_rows_are_deleted() {
    let shared = Shared::new().await;
    let theirs = "INSERT INTO journal VALUES (gen_random_uuid(), 'theirs')";
    run(&shared.options, theirs).await;
    let other = shared.sandbox().await;
    let neighbour = other.tenant().await.expect("a tenant");
    work(&neighbour).await;
    let all = shared.rows().await;

    let sandbox = shared.sandbox().await;
    work(&sandbox.tenant().await.expect("a tenant")).await;
    // A tenant that it has not made is not its to serve, nor to delete.
    let stranger = sandbox.registry().scope(neighbour.tenant().clone()).await;
    assert_eq!(
        stranger.err().map(|error| error.kind()),
        Some(ErrorKind::TenantUnknown)
    );
    sandbox.close().await.expect("closed");
    assert_eq!(shared.rows().await, all);
    drop(other);
    assert_eq!(shared.rows().await, 1);
}

/// In the middle of a transaction that holds locks, on either flavour of runtime.
#[test]
fn it_goes_when_the_test_panics() {
    let outside = tokio::runtime::Runtime::new().expect("a runtime");
    let shared = outside.block_on(Shared::new());
    let runtimes = [
        tokio::runtime::Builder::new_current_thread(),
        tokio::runtime::Builder::new_multi_thread(),
    ];
    for mut runtime in runtimes {
        let test = || {
            let runtime = runtime.enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let sandbox = shared.sandbox().await;
                let tenant = sandbox.tenant().await.expect("a tenant");
                work(&tenant).await;
                let mut tx = tenant.begin().await.expect("a transaction");
                let update = "UPDATE lines SET body = 'locked'";
                sqlx::query(update).execute(&mut tx).await.expect("updated");
                // What is never dropped never rolls back.
                let _held = std::mem::ManuallyDrop::new(tx);
                assert_eq!(1, 2, "as a test fails");
            });
        };
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(test));
        assert!(panicked.is_err());
        outside.block_on(shared.is_clean());
    }
}

/// Whoever waits may go away, at each poll: what was made goes, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_may_be_given_up_anywhere() {
    let shared = Shared::new().await;
    for polls in 0..4 {
        let builder = Sandbox::of(shared.installation.clone());
        given_up(builder.shared(&shared.options), polls).await;
        let sandbox = Sandbox::of(shared.installation.clone());
        let sandbox = sandbox.databases(&shared.options).await.expect("a sandbox");
        given_up(sandbox.tenant(), polls).await;
        let role = count(
            &shared.options,
            "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'tenantry%'",
        );
        assert!(role.await > 0);
        sandbox.close().await.expect("closed");
    }
    // What was begun is done to its end, and then undone.
    let databases = "SELECT count(*) FROM pg_database WHERE datname LIKE 'tenantry_sandbox%' \
                     AND datname LIKE '%PID%'";
    let databases = databases.replace("PID", &std::process::id().to_string());
    for _ in 0..200 {
        let left =
            roles(&shared.options, &shared.role).await + count(&shared.options, &databases).await;
        if left == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("something was left");
}

/// A database that is under way when the sandbox looks for what to remove, and is not there yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_made_while_it_closes_goes_too() {
    let shared = Shared::new().await;
    let sandbox = Sandbox::of(shared.installation.clone());
    let sandbox = sandbox.databases(&shared.options).await.expect("a sandbox");
    let databases = format!(
        "SELECT count(*) FROM pg_database WHERE datname LIKE '{}%'",
        role_of(&sandbox)
    );
    // Whoever copies a template takes turns.
    let mut turn = shared.options.connect().await.expect("a connection");
    sqlx::query("SELECT pg_advisory_lock(x'0073616e64626f78'::bigint)")
        .execute(&mut turn)
        .await
        .expect("locked");
    given_up(sandbox.tenant(), 1).await;
    sandbox.close().await.expect("closed");
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    while count(&shared.options, waiting).await == 0 {
        tokio::task::yield_now().await;
    }
    turn.close().await.expect("closed");
    // Made, and then removed: nobody waits for the turn any more.
    let lock = "SELECT pg_advisory_lock(x'0073616e64626f78'::bigint)";
    run(&shared.options, lock).await;
    for _ in 0..200 {
        if count(&shared.options, &databases).await == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the database was left");
}

/// The name of its role, with which those of its databases begin.
fn role_of(sandbox: &Sandbox) -> String {
    let shown = format!("{sandbox:?}");
    let role = shown.split('"').nth(1).expect("a role");
    role.to_owned()
}

/// Polls so often, whether there is something to wake up for or not, and lets go.
async fn given_up<F: Future>(future: F, polls: usize) {
    let mut future = std::pin::pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 || future.as_mut().poll(context).is_ready() {
            return std::task::Poll::Ready(());
        }
        left -= 1;
        match left {
            0 => std::task::Poll::Ready(()),
            _ => {
                context.waker().wake_by_ref();
                std::task::Poll::Pending
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_role_that_does_not_see_all_rows_is_refused() {
    let shared = Shared::new().await;
    let role = name("some");
    run(
        &shared.options,
        &format!("CREATE ROLE {role} LOGIN CREATEROLE"),
    )
    .await;
    let options = shared.options.clone().username(&role);
    let error = Sandbox::of(shared.installation.clone())
        .shared(&options)
        .await
        .err();
    assert_eq!(
        error.map(|error| error.kind()),
        Some(ErrorKind::Installation)
    );
    shared.is_clean().await;
}

fn of_databases(role: &str) -> SandboxBuilder {
    let grant = format!("GRANT ALL ON notes TO {role}");
    let installation = Installation::new(role).tenant_column("tenant_id", TenantType::Text);
    Sandbox::of(installation).prepare(move |connection| {
        let grant = grant.clone();
        Box::pin(async move {
            sqlx::raw_sql("CREATE TABLE IF NOT EXISTS notes (body text)")
                .execute(&mut *connection)
                .await?;
            sqlx::raw_sql(AssertSqlSafe(grant))
                .execute(connection)
                .await?;
            Ok(())
        })
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_for_each_tenant() {
    let options = server().await.connect_options();
    let role = name("app");
    let databases = format!(
        "SELECT count(*) FROM pg_database WHERE datname LIKE 'tenantry\\_sandbox\\_{}\\_%'",
        std::process::id()
    );
    let sandboxes = join_all((0..3).map(|_| async {
        let sandbox = of_databases(&role)
            .databases(&options)
            .await
            .expect("a sandbox");
        let tenants =
            [sandbox.tenant().await, sandbox.tenant().await].map(|t| t.expect("a tenant"));
        for tenant in &tenants {
            let body = tenant.tenant().as_str();
            let insert = sqlx::query("INSERT INTO notes VALUES ($1)").bind(body);
            insert.execute(tenant).await.expect("a row");
        }
        for tenant in &tenants {
            let bodies: Vec<String> = sqlx::query_scalar("SELECT body FROM notes")
                .fetch_all(tenant)
                .await
                .expect("rows");
            assert_eq!(bodies, [tenant.tenant().as_str()]);
        }
        sandbox
    }))
    .await;
    assert!(count(&options, &databases).await >= 6);
    for (number, sandbox) in sandboxes.into_iter().enumerate() {
        match number {
            0 => sandbox.close().await.expect("closed"),
            _ => drop(sandbox),
        }
    }
    assert_eq!(roles(&options, &role).await, 0);
}

#[tokio::test]
async fn a_database_is_copied_from_a_template() {
    let server = server().await;
    let template = name("template");
    let database = server.create_database(&template).await.expect("made");
    run(
        &database,
        "CREATE TABLE notes (body text); INSERT INTO notes VALUES ('of the template')",
    )
    .await;
    let role = name("app");
    let sandbox = of_databases(&role).template(&template);
    let sandbox = sandbox
        .databases(&server.connect_options())
        .await
        .expect("a sandbox");
    let tenant = sandbox.tenant().await.expect("a tenant");
    let body: String = sqlx::query_scalar("SELECT body FROM notes")
        .fetch_one(&tenant)
        .await
        .expect("a row");
    assert_eq!(body, "of the template");
    // What prepares it may fail; then there is no tenant, and nothing stays.
    let installation = Installation::new(&role).tenant_column("tenant_id", TenantType::Text);
    let failing = Sandbox::of(installation).prepare(|_| Box::pin(async { Err("as it is".into()) }));
    let failing = failing
        .databases(&server.connect_options())
        .await
        .expect("a sandbox");
    let error = failing.tenant().await.err();
    assert_eq!(
        error.map(|error| error.kind()),
        Some(ErrorKind::Installation)
    );
    failing.close().await.expect("closed");
    sandbox.close().await.expect("closed");
    assert_eq!(roles(&server.connect_options(), &role).await, 0);
}

/// In the database of a test, as `#[sqlx::test]` hands it out: a superuser's pool, and no more.
async fn exclusive(pool: PgPool, role: &str) {
    sqlx::raw_sql("CREATE TABLE notes (body text)")
        .execute(&pool)
        .await
        .expect("a table");
    let installation = Installation::new(role).tenant_column("tenant_id", TenantType::BigInt);
    let sandbox = Sandbox::of(installation.clone())
        .tables(["notes"])
        .pool_options(|options| options.max_connections(1))
        .exclusive(&pool)
        .await
        .expect("a sandbox");
    let (a, b) = (
        sandbox.tenant().await.expect("a"),
        sandbox.tenant().await.expect("b"),
    );
    sqlx::query("INSERT INTO notes (body) VALUES ('of a')")
        .execute(&a)
        .await
        .expect("a row");
    let context = TenantContext::new(b.tenant().clone()).user("ann");
    let b = sandbox.registry().scope(context).await.expect("a scope");
    let seen: i64 = sqlx::query_scalar("SELECT count(*) FROM notes")
        .fetch_one(&b)
        .await
        .expect("a count");
    assert_eq!(seen, 0);
    tenantry::assert_isolated!(&pool, &installation);
    sandbox.close().await.expect("closed");
    // The database goes with the test; what it is kept for is to be looked at.
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM notes")
        .fetch_one(&pool)
        .await
        .expect("a count");
    assert_eq!(kept, 1);
}

#[tokio::test]
async fn in_a_database_of_its_own() {
    let role = name("app");
    let databases = [name("own"), name("own")];
    // Both make the application role, if they can.
    join_all(databases.map(|database| {
        let role = role.clone();
        async move {
            let options = server()
                .await
                .create_database(&database)
                .await
                .expect("made");
            let pool = PgPoolOptions::new()
                .max_connections(2)
                .connect_lazy_with(options);
            exclusive(pool, &role).await;
        }
    }))
    .await;
    assert_eq!(roles(&server().await.connect_options(), &role).await, 0);
}

/// Run by the next one, which has a server for it.
#[sqlx::test]
#[ignore = "needs DATABASE_URL: it_fits_sqlx_test runs it with one"]
async fn with_sqlx_test(pool: PgPool) {
    exclusive(pool, "of_sqlx_test").await;
}

#[tokio::test]
async fn it_fits_sqlx_test() {
    let options = server().await.connect_options();
    let ours = format!(
        "postgres://postgres@{}:{}/postgres",
        options.get_host(),
        options.get_port()
    );
    // An existing server, where there is one.
    let url = std::env::var("TENANTRY_TEST_DATABASE_URL").unwrap_or(ours);
    let this = std::env::current_exe().expect("this program");
    let run = || {
        Command::new(this)
            .args(["--ignored", "--exact", "with_sqlx_test", "--test-threads=1"])
            .env("DATABASE_URL", url)
            .output()
    };
    let output = tokio::task::spawn_blocking(run)
        .await
        .expect("run")
        .expect("run");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
}
