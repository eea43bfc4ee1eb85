//! The service that both frameworks serve: what its handlers do, and the world it does it in.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use axum::http::Method;
use sqlx::Executor as _;
use sqlx::postgres::PgConnectOptions;
use tenantry::testing::FaultProxy;
use tenantry::web::{LazyTx, Rejection, RequiredPermission, TenantLayer, TransactionLayer, Tx};
use tenantry::{
    Database, Error, LazyPools, Permission, Placement, RequestHead, ResolveError, ResolveErrorKind,
    StaticDirectory, TenantContext, TenantDirectory, TenantId, TenantRecord, TenantRegistry,
    TenantResolver, TenantScope, TenantState, TenantTx, TxOptions,
};

use crate::client::{A, Ask, B, MARKER};
use crate::stage::{Stage, soon};
use crate::support::log::{Log, log};
use crate::support::{World, notes, tenant, world};

/// How a service is started.
pub trait Framework {
    const NAME: &str;

    fn serve(service: Service) -> impl Future<Output = Server> + Send;

    /// The status of `POST /notes` without a socket, or `None` if the request was dropped after so
    /// many polls.
    fn post_note(
        service: Service,
        tenant: String,
        note: String,
        polls: usize,
    ) -> impl Future<Output = Option<u16>>;
}

/// Ends when it is dropped.
pub struct Server {
    pub address: SocketAddr,
    pub stop: Option<Box<dyn FnOnce() + Send>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop();
        }
    }
}

/// What a service is made of.
#[derive(Clone)]
pub struct Service {
    pub registry: TenantRegistry,
    pub tenants: TenantLayer,
    /// By the header `x-inner-tenant`.
    pub inner_tenants: TenantLayer,
    pub transactions: TransactionLayer,
    pub stage: Stage,
    /// Whether a client that has shut its half of the connection is gone: a setting of actix alone.
    pub half_closed_is_gone: bool,
}

/// A service in a world of its own, with one connection for all.
pub struct Stand {
    pub world: World,
    pub service: Service,
    pub server: Server,
    pub log: Log,
    _wire: Option<FaultProxy>,
}

impl Stand {
    pub async fn start<F: Framework>() -> Self {
        Self::start_with::<F>(|service| service).await
    }

    pub async fn start_with<F: Framework>(change: impl FnOnce(Service) -> Service) -> Self {
        Self::build::<F>(change, Duration::from_secs(60), false).await
    }

    /// One whose requests do not wait for a connection.
    pub async fn impatient<F: Framework>() -> Self {
        Self::build::<F>(|service| service, Duration::from_millis(500), false).await
    }

    /// One that waits for each answer of the database.
    pub async fn over_a_slow_wire<F: Framework>() -> Self {
        Self::build::<F>(|service| service, Duration::from_secs(60), true).await
    }

    async fn build<F: Framework>(
        change: impl FnOnce(Service) -> Service,
        patience: Duration,
        slow: bool,
    ) -> Self {
        let log = log();
        let world = world(&[A, B]).await;
        world
            .admin()
            .await
            .execute(sqlx::AssertSqlSafe(FUNCTIONS.replace("MARKER", MARKER)))
            .await
            .expect("functions");
        let (wire, app) = match slow {
            false => (None, world.app.clone()),
            true => {
                let wire = world.slow_wire().await;
                let app = wire.connect_options(&world.app);
                (Some(wire), app)
            }
        };
        let registry = TenantRegistry::builder(Directory::over(&app))
            .lazy(LazyPools::default())
            .pool_options(move |_, options| options.max_connections(1).acquire_timeout(patience))
            .build()
            .await
            .expect("a registry");
        let service = change(Service {
            tenants: TenantLayer::new(registry.clone(), ByHeader("x-tenant")),
            inner_tenants: TenantLayer::new(registry.clone(), ByHeader("x-inner-tenant")),
            registry,
            transactions: TransactionLayer::new(),
            stage: Stage::new(),
            half_closed_is_gone: true,
        });
        let server = F::serve(service.clone()).await;
        Self {
            world,
            service,
            server,
            log,
            _wire: wire,
        }
    }

    pub fn ask(&self, method: Method, path: &str) -> Ask {
        Ask::new(self.server.address, method, path)
    }

    pub fn get(&self, path: &str) -> Ask {
        self.ask(Method::GET, path).header("x-tenant", A)
    }

    pub fn post(&self, path: &str, body: &str) -> Ask {
        self.ask(Method::POST, path)
            .header("x-tenant", A)
            .body(body)
    }

    pub fn post_as(&self, tenant: &str, user: &str, path: &str, body: &str) -> Ask {
        self.ask(Method::POST, path)
            .header("x-tenant", &format!("{tenant} {user}"))
            .body(body)
    }

    /// The notes that were kept, of both tenants, without those that were there at the start.
    pub async fn kept(&self) -> Vec<String> {
        let mut admin = self.world.admin().await;
        let mut kept = notes(&mut admin).await.expect("rows");
        kept.retain(|note| !note.starts_with("a note of"));
        kept
    }

    /// That the only connection serves whoever comes next, out of any transaction.
    pub async fn serves(&self) {
        for (name, note) in [(A, "a note of acme-7141"), (B, "a note of globex-9352")] {
            let answer = self.ask(Method::GET, "/notes").header("x-tenant", name);
            let notes = soon(answer.send()).await.notes();
            assert!(notes.iter().any(|seen| seen == note), "{notes:?}");
        }
    }

    /// Until the server says that `count` of its sessions wait for a lock.
    pub async fn blocked(&self, count: i64) {
        let mut admin = self.world.admin().await;
        for _ in 0..100_000 {
            let waiting: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                 AND wait_event_type = 'Lock'",
            )
            .fetch_one(&mut admin)
            .await
            .expect("a count");
            if waiting == count {
                return;
            }
        }
        panic!("nobody waits for a lock");
    }

    /// That a line of this level with these words was logged.
    pub fn logged(&self, level: &str, words: &str) {
        let lines = self.log.lines();
        let is_it = |line: &&String| line.starts_with(level) && line.contains(words);
        assert!(lines.iter().any(|line| is_it(&line)), "no {words:?}");
        let ours = |line: &&String| line.contains("tenantry::web");
        for line in lines.iter().filter(ours) {
            assert!(!line.contains(MARKER), "{line}");
        }
    }
}

/// What the database is made to fail with says the marker in every part that it has. A note `at
/// commit: CODE` fails when it is committed, `at commit: leave` ends the session, `at commit: wait`
/// waits for whoever holds the lock 4711.
const FUNCTIONS: &str = r"
    CREATE FUNCTION fail_with(code text) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION USING ERRCODE = code, MESSAGE = 'MARKER', DETAIL = 'MARKER',
            HINT = 'MARKER', CONSTRAINT = 'MARKER', TABLE = 'MARKER', COLUMN = 'MARKER';
    END $$;
    CREATE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE what text := substr(NEW.body, length('at commit: ') + 1);
    BEGIN
        IF what = 'leave' THEN
            PERFORM pg_terminate_backend(pg_backend_pid());
        ELSIF what = 'wait' THEN
            PERFORM pg_advisory_xact_lock(4711);
        ELSE
            PERFORM fail_with(what);
        END IF;
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON notes DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.body LIKE 'at commit: %') EXECUTE FUNCTION at_commit();
    CREATE UNIQUE INDEX ON notes (tenant_id, body) WHERE body LIKE 'once%';
";

/// The tenant that a header names; `refuse KIND` is refused as such.
struct ByHeader(&'static str);

#[async_trait]
impl TenantResolver for ByHeader {
    async fn resolve(&self, request: &RequestHead<'_>) -> Result<TenantContext, ResolveError> {
        let Some(value) = request.field(self.0)? else {
            return Err(ResolveError::new(ResolveErrorKind::Absent));
        };
        if let Some(name) = value.strip_prefix("refuse ") {
            let kind = REFUSALS.iter().find(|kind| format!("{kind:?}") == name);
            return Err(ResolveError::new(*kind.expect("a kind")));
        }
        let (tenant, user) = match value.split_once(' ') {
            Some((tenant, user)) => (tenant, user.to_owned()),
            None => (value, format!("user of {value}")),
        };
        match tenant.parse::<TenantId>() {
            Ok(tenant) => Ok(TenantContext::new(tenant).user(user)),
            Err(_) => Err(ResolveError::new(ResolveErrorKind::Malformed)),
        }
    }
}

pub const REFUSALS: [ResolveErrorKind; 14] = [
    ResolveErrorKind::Absent,
    ResolveErrorKind::Malformed,
    ResolveErrorKind::Disagreement,
    ResolveErrorKind::TokenAbsent,
    ResolveErrorKind::TokenMalformed,
    ResolveErrorKind::TokenAlgorithm,
    ResolveErrorKind::TokenKey,
    ResolveErrorKind::TokenSignature,
    ResolveErrorKind::TokenExpired,
    ResolveErrorKind::TokenNotYetValid,
    ResolveErrorKind::TokenIssuer,
    ResolveErrorKind::TokenAudience,
    ResolveErrorKind::TokenClaims,
    ResolveErrorKind::Unavailable,
];

/// Two tenants that are served, and one of each sort that is not.
struct Directory(StaticDirectory);

impl Directory {
    fn over(app: &PgConnectOptions) -> Self {
        // The server trusts whom it knows: the password is there to be looked for in answers.
        let app = app.clone().password(MARKER);
        let directory = StaticDirectory::new().shared(
            app.clone(),
            ["acme-7141", "globex-9352", "dropped-axum", "dropped-actix"].map(tenant),
        );
        for (name, state) in [
            ("suspended-1", TenantState::Suspended),
            ("moving-1", TenantState::Moving),
            ("deleted-1", TenantState::Deleted),
        ] {
            let record = TenantRecord::new(Placement::Shared {
                database: Database::new(app.clone()),
            });
            directory.put(tenant(name), record.state(state));
        }
        let nowhere = Placement::Shared {
            database: Database::new(app.host("127.0.0.1").port(1)),
        };
        directory.put(tenant("unreachable-1"), TenantRecord::new(nowhere));
        Self(directory)
    }
}

#[async_trait]
impl TenantDirectory for Directory {
    async fn find(&self, tenant: &TenantId) -> Result<Option<TenantRecord>, Error> {
        if tenant.as_str() == "undirected-1" {
            return Err(Error::directory(MARKER));
        }
        self.0.find(tenant).await
    }

    async fn list(&self, after: Option<&TenantId>, limit: usize) -> Result<Vec<TenantId>, Error> {
        self.0.list(after, limit).await
    }
}

/// What the guarded routes require.
pub struct CreateNotes;

impl RequiredPermission for CreateNotes {
    const PERMISSION: Permission = Permission::new("notes", "create");
}

pub async fn add(tx: &mut TenantTx, note: &str) -> Result<(), Rejection> {
    sqlx::query("INSERT INTO notes (body) VALUES ($1)")
        .bind(note)
        .execute(tx)
        .await?;
    Ok(())
}

/// Waits, and then works in the transaction, twice.
pub async fn add_lazily(tx: LazyTx, stage: Stage, note: &str) -> Result<(), Rejection> {
    stage.wait_here().await;
    add(&mut *tx.begin().await?, note).await?;
    add(&mut *tx.begin().await?, "and another").await
}

/// Goes on with the transaction after the request has been answered.
pub fn detach(stage: Stage, tx: Tx) {
    tokio::spawn(async move {
        stage.wait_here().await;
        let told = tx.commit().await.map_err(|error| error.kind());
        stage.say(format!("{told:?}"));
    });
}

/// Asks for the transaction when it is dropped, and says what came of it.
pub struct AskWhenDropped<T: Fn() -> Option<Result<Tx, Rejection>>> {
    pub take: T,
    pub stage: Stage,
}

impl<T: Fn() -> Option<Result<Tx, Rejection>>> Drop for AskWhenDropped<T> {
    fn drop(&mut self) {
        self.stage.say(match (self.take)() {
            Some(Err(_)) => "refused".to_owned(),
            other => format!("{other:?}"),
        });
    }
}

/// Fails as `what` says, on a scope.
pub async fn fail(
    registry: &TenantRegistry,
    scope: &TenantScope,
    what: &str,
) -> Result<(), Rejection> {
    match what {
        "invalid-tenant-id" => drop(format!("{MARKER} ?").parse::<TenantId>()?),
        "invalid-context" => {
            let context = TenantContext::new(scope.tenant().clone()).user("");
            registry.scope(context).await?;
        }
        "invalid-option" => drop(scope.begin_with(&TxOptions::default().role("")).await?),
        "unknown-setting" => {
            let context = TenantContext::new(scope.tenant().clone()).setting("app.odd", MARKER);
            registry.scope(context).await?;
        }
        "statement-refused" => {
            sqlx::query("SET work_mem = 64").execute(scope).await?;
        }
        "connection-lost" => {
            sqlx::query("SELECT pg_terminate_backend(pg_backend_pid())")
                .execute(scope)
                .await?;
        }
        "row-not-found" => {
            sqlx::query("SELECT FROM notes WHERE body = 'none'")
                .fetch_one(scope)
                .await?;
        }
        "decode" => {
            let _: i64 = sqlx::query_scalar("SELECT body FROM notes")
                .fetch_one(scope)
                .await?;
        }
        "syntax" => {
            sqlx::query("SELECT FROM no_such_table")
                .execute(scope)
                .await?;
        }
        "time-out" => {
            let options = TxOptions::default().statement_timeout(Duration::from_millis(1));
            let mut tx = scope.begin_with(&options).await?;
            sqlx::query("SELECT pg_sleep(60)").execute(&mut tx).await?;
        }
        code => {
            sqlx::query("SELECT fail_with($1)")
                .bind(code)
                .execute(scope)
                .await?;
        }
    }
    Ok(())
}

/// Fails as `what` says, in the transaction of the request.
pub async fn fail_in(tx: &mut Tx, scope: &TenantScope, what: &str) -> Result<(), Rejection> {
    add(tx, "goes with its transaction").await?;
    match what {
        // The only connection is the transaction's.
        "acquire-timeout" => drop(notes(scope).await?),
        "aborted" => {
            let failed = sqlx::query("SELECT fail_with('P0001')")
                .execute(&mut **tx)
                .await;
            failed.expect_err("it fails");
            notes(&mut **tx).await?;
        }
        "twice" => {
            add(tx, "once").await?;
            add(tx, "once").await?;
        }
        // And says nothing of it.
        "swallowed" => {
            let failed = sqlx::query("SELECT fail_with('P0001')")
                .execute(&mut **tx)
                .await;
            failed.expect_err("it fails");
        }
        code => {
            sqlx::query("SELECT fail_with($1)")
                .bind(code)
                .execute(&mut **tx)
                .await?;
        }
    }
    Ok(())
}

/// What a middleware does, as the headers `x-outer` and `x-inner` say. `x-outer` stands around the
/// layers of the library, `x-inner` between them and the handlers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directive {
    /// Nothing.
    Pass,
    /// A panic is answered with this status.
    Catch(u16),
    /// When the test says so, the handler is dropped, and the answer is this one.
    TimeOut(u16),
    /// Takes the transaction, writes a note, gives it back and calls the handler.
    Audit,
    /// Calls the handler while it holds the transaction.
    AuditAround,
    /// Begins to take the transaction and gives up, then calls the handler.
    GiveUpFirst,
}

impl Directive {
    pub fn parse(value: Option<&str>) -> Self {
        match value.map(|value| value.split_once(' ').unwrap_or((value, ""))) {
            None => Self::Pass,
            Some(("catch", status)) => Self::Catch(status.parse().expect("a status")),
            Some(("time-out", status)) => Self::TimeOut(status.parse().expect("a status")),
            Some(("audit", _)) => Self::Audit,
            Some(("audit-around", _)) => Self::AuditAround,
            Some(("give-up-first", _)) => Self::GiveUpFirst,
            Some(other) => panic!("no such directive: {other:?}"),
        }
    }
}
