//! Guarantee 8 over the whole public API: each type, with something secret in it, is printed, says what
//! it is and nothing secret, and the list of the public API says that none was left out.
//!
//! Whatever is secret here has `c4n4ry` in it: passwords, keys, tokens, SQL, bound values, users,
//! values of settings, what is recorded and why, payloads, and what a client sent.

mod support;

#[path = "support/folder.rs"]
mod folder;
#[path = "jwt/issuer.rs"]
mod issuer;

use std::any::type_name;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::routing::get;
use axum::{Extension, Router};
use folder::Folder;
use serde_json::json;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Executor as _, PgPool};
use support::control::Control;
use support::{World, tenant, world_with};
use tenantry::audit::{Allowance, AuditConfig, Auditor, Probe, Rule, Severity};
use tenantry::jwt::{JwtKey, JwtKeySet};
use tenantry::repository::{Cursor, Direction, Page, PageRequest, Pager};
use tenantry::sql::{ControlTables, DangerousAccess, Installation, TenantType};
use tenantry::sqlite::{SqlitePoolOptions, SqliteRegistry, SqliteSynchronous};
use tenantry::web::{
    LazyTx, Permitted, Rejection, RequirePermission, RequiredPermission, Scope, TenantLayer,
    TransactionLayer, Tx,
};
use tenantry::{
    Authorizer, CommitError, ConnectionBudget, ContextSettings, Database, DirectoryChange,
    EagerPools, Error, ErrorKind, EvictionCause, ForEachTenant, HeaderResolver, HostResolver,
    IsolationLevel, LazyPools, NumberSeries, PathResolver, Permission, PermissionPattern,
    Placement, Platform, PlatformJob, PoolOptions, Pooler, PostgresDirectory, Reader, RequestHead,
    ResolveError, ResolveErrorKind, RetryPolicy, RoleAdmin, Secret, SigningKey, StaticDirectory,
    Stopped, TenantContext, TenantDirectory as _, TenantJob, TenantRecord, TenantRegistry,
    TenantResolver as _, TenantState, Trail, TrailEntry, TrailQuery, TxOptions, UniqueSeries,
};
use tower::{Layer as _, ServiceExt as _};

const CANARY: &str = "c4n4ry";

/// What was printed.
#[derive(Clone, Default)]
struct Shown(Arc<Mutex<BTreeSet<String>>>);

impl Shown {
    #[track_caller]
    fn look<T: Debug>(&self, value: T) {
        let name = name_of(type_name::<T>());
        let text = format!("{value:?} {value:#?}");
        assert!(!text.to_lowercase().contains(CANARY), "{name}: {text}");
        // Of an enum the variant is enough.
        let is_its = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric());
        let is_named = !STRUCTS.contains(&name) || text.strip_prefix(&*name).is_some_and(is_its);
        assert!(is_named, "{name} does not say what it is: {text}");
        self.0.lock().expect("no panic").insert(name);
    }

    fn names(&self) -> BTreeSet<String> {
        self.0.lock().expect("no panic").clone()
    }
}

/// `Reader` for `&tenantry::reader::Reader<'_>`.
fn name_of(path: &str) -> String {
    let path = path
        .trim_start_matches(['&', ' '])
        .trim_start_matches("mut ");
    let path = path.split(['<', '(']).next().expect("one part");
    path.rsplit("::").next().expect("one part").to_owned()
}

static STRUCTS: LazyLock<BTreeSet<String>> = LazyLock::new(|| public("pub struct "));

/// Every struct, or enum, of the public API, but for those that are for tests.
fn public(declaration: &str) -> BTreeSet<String> {
    let api = include_str!("public-api.txt");
    let types = api.lines().filter_map(|line| {
        let (_, path) = line.split_once(declaration)?;
        let is_for_tests = path.starts_with("tenantry::testing::");
        (path.starts_with("tenantry::") && !is_for_tests).then(|| name_of(path))
    });
    types.collect()
}

#[tokio::test]
async fn every_public_type_keeps_silent() {
    let shown = Shown::default();
    plain(&shown);
    let world = stage().await;
    live(&shown, &world).await;
    requests(&shown, &world).await;
    files(&shown).await;
    assert!(STRUCTS.contains("TenantRegistry"));
    let mut expected = &*STRUCTS | &public("pub enum ");
    // There is no value of it.
    expected.remove("Trail");
    let missing: Vec<_> = expected.difference(&shown.names()).cloned().collect();
    assert!(missing.is_empty(), "not looked at: {missing:?}");
}

/// The specimen: what holds a secret and prints it.
#[test]
#[should_panic(expected = "Careless")]
fn careless_type_is_noticed() {
    #[derive(Debug)]
    #[expect(dead_code, reason = "it is printed")]
    struct Careless(&'static str);
    Shown::default().look(Careless("c4n4ry"));
}

fn names() -> ContextSettings {
    ContextSettings::default().with("app.role").expect("a name")
}

fn installation() -> Installation {
    Installation::new("app")
        .tenant_column("tenant_id", TenantType::Text)
        .settings(names())
}

async fn stage() -> World {
    let world = world_with(installation(), &["a"]).await;
    let mut admin = world.admin().await;
    let (numbers, trail) = (installation().number_series(), installation().trail());
    numbers.apply(&mut admin).await.expect("applied");
    trail.apply(&mut admin).await.expect("applied");
    let authorization = installation().authorization();
    authorization.apply(&mut admin).await.expect("applied");
    world
}

fn secret(options: &PgConnectOptions) -> PgConnectOptions {
    options.clone().password("c4n4ry password")
}

fn context() -> TenantContext {
    TenantContext::new(tenant("a"))
        .user("c4n4ry user")
        .setting("app.role", "c4n4ry role")
}

/// What is made without a database.
fn plain(shown: &Shown) {
    let options = PgConnectOptions::new_without_pgpass().password("c4n4ry password");
    let database = Database::new(options.clone()).password(Secret::environment("PASSWORD"));
    shown.look(&database);
    shown.look(Secret::file("/run/secret"));
    let key = SigningKey::new("2026-11", Secret::environment("KEY"));
    shown.look(key.expect("a key"));
    shown.look(Secret::environment("PASSWORD"));
    let placement = Placement::Schema {
        database: database.clone(),
        schema: "s".into(),
    };
    shown.look(&placement);
    shown.look(TenantRecord::new(placement).state(TenantState::Moving));
    shown.look(TenantState::Active);
    shown.look(DirectoryChange::Tenant(tenant("a")));
    shown.look(StaticDirectory::new().shared_by_all(database.clone()));
    shown.look(PostgresDirectory::builder(database.clone()).server("main", secret(&options)));
    shown.look(
        TenantRegistry::builder(StaticDirectory::new().shared_by_all(database.clone()))
            .dangerous(secret(&options))
            .budget(ConnectionBudget::per_server(4)),
    );
    shown.look(ConnectionBudget::per_server(4));
    shown.look(PoolOptions::default());
    shown.look((EagerPools::default(), LazyPools::default()).0);
    shown.look(LazyPools::default());
    shown.look(ForEachTenant::default());
    shown.look(EvictionCause::Idle);
    shown.look(Pooler::Detect);
    shown.look(Stopped::Failures);
    shown.look(IsolationLevel::Serializable);
    shown.look(RetryPolicy::default());
    shown.look(TxOptions::default().role("r").search_path(["s"]));
    shown.look(names());
    shown.look(tenant("a"));
    shown.look(context());
    shown.look(
        Authorizer::builder()
            .redis("redis://:c4n4ry@localhost/")
            .subscription(database),
    );
    shown.look(permission());
    shown.look(
        "invoices:*"
            .parse::<PermissionPattern>()
            .expect("a pattern"),
    );

    let job = TenantJob::new(context(), "c4n4ry payload");
    shown.look(&job);
    shown.look(PlatformJob::new(Platform, "c4n4ry payload"));
    shown.look(Platform);

    shown.look(NumberSeries::new("invoice"));
    shown.look(NumberSeries::new("invoice").parse("7").expect("a number"));
    shown.look(UniqueSeries::new("ticket"));
    let entry = TrailEntry::new("pay").object("c4n4ry", "c4n4ry");
    shown.look(entry.before(json!("c4n4ry")).after(json!("c4n4ry")));
    shown.look(TrailQuery::new().object("c4n4ry", "c4n4ry"));

    let request = PageRequest::default().order("c4n4ry").limit(1);
    let pager = Pager::<String>::new(&context(), "list", &request).expect("a pager");
    let page: Page<&str> = pager
        .page(vec!["c4n4ry", "c4n4ry"], |row| (*row).to_owned())
        .expect("a page");
    let cursor: Cursor = page.next.clone().expect("there is more");
    shown.look(&page);
    shown.look(&cursor);
    let request = request.after(cursor);
    shown.look(&request);
    shown.look(Pager::<String>::new(&context(), "list", &request).expect("its own"));
    shown.look(Direction::Ascending);

    shown.look(installation());
    shown.look(installation().table("t"));
    shown.look(installation().reference_table("t"));
    shown.look(installation().authorization());
    shown.look(installation().number_series());
    shown.look(installation().trail());
    shown.look(ControlTables::new("app"));
    shown.look(DangerousAccess::new("danger"));
    shown.look(TenantType::Text);

    shown.look(AuditConfig::from(installation()));
    let users = |user| [("app.tenant_id", user), ("app.user_id", "c4n4ry user")];
    shown.look(AuditConfig::new("app").contexts(users("c4n4ry id"), users("c4n4ry other")));
    shown.look(Auditor::new(installation()));
    shown.look(Probe::of("a database").functions());
    shown.look(Allowance::new("r", "o", "because"));
    shown.look(Severity::High);
    shown.look(Rule::all().next().expect("a rule"));

    tokens(shown);
    shown.look(
        "c4n4ry id"
            .parse::<tenantry::TenantId>()
            .expect_err("a space"),
    );
    shown.look(ErrorKind::Other);
    shown.look(Rejection::from(Error::directory("c4n4ry")));
    shown.look(Error::directory("c4n4ry"));
}

fn permission() -> Permission {
    Permission::new("invoices", "read")
}

/// Keys, tokens, and requests with them.
fn tokens(shown: &Shown) {
    let key = || JwtKey::hs256(b"c4n4ry c4n4ry c4n4ry c4n4ry c4n4ry").expect("a key");
    shown.look(key());
    let keys = JwtKeySet::new([key()]).expect("keys");
    shown.look(&keys);
    let builder = issuer::builder().keys(keys);
    shown.look(&builder);
    let resolver = builder.build().expect("complete");
    shown.look(&resolver);
    let signer = issuer::Signer::hs256(issuer::OTHER_SECRET);
    let mut claims = issuer::claims();
    claims["sub"] = json!("c4n4ry");
    let token = format!(
        "Bearer {}",
        signer.sign(&issuer::header("HS256", Some("c4n4ry")), &claims)
    );
    let fields = [("authorization", &*token), ("x-tenant-id", "c4n4ry!")];
    let head = RequestHead::new(Some("c4n4ry!"), "/c4n4ry/%00", &fields);
    shown.look(head);
    let bearer = token.trim_start_matches("Bearer ");
    shown.look(resolver.verify(bearer).expect_err("another key"));
    shown.look(ResolveErrorKind::TokenExpired);
    shown.look(ResolveError::new(ResolveErrorKind::TokenExpired));
    let header = HeaderResolver::new("x-tenant-id").expect("a name");
    shown.look(&header);
    shown.look(HostResolver::subdomain_of("example.com").expect("a domain"));
    shown.look(PathResolver::segment(0));
    shown.look(resolver.clone().or(header.clone()));
    shown.look(resolver.agrees_with(header));
}

/// What has a connection, or comes from one.
async fn live(shown: &Shown, world: &World) {
    let role = format!("danger_{}", world.admin.get_database().expect("named"));
    let mut admin = world.admin().await;
    let create = format!("CREATE ROLE {role} LOGIN BYPASSRLS IN ROLE app");
    let created = admin.execute(AssertSqlSafe(create));
    created.await.expect("a role");
    let access = DangerousAccess::new(&*role);
    access.install(&mut admin).await.expect("installed");
    let directory = StaticDirectory::new().shared_by_all(secret(&world.app));
    let registry = TenantRegistry::builder(directory)
        .settings(names())
        .pool_options(|_, options| options.max_connections(2))
        .dangerous(secret(&world.app).username(&role))
        .build()
        .await
        .expect("a registry");
    let a = registry.scope(context()).await.expect("a scope");
    shown.look(&registry);
    shown.look(&a);
    shown.look(Reader::from(&a));
    let mut tx = a.begin().await.expect("begun");
    sqlx::query("SELECT $1, 'c4n4ry'")
        .bind("c4n4ry")
        .execute(&mut tx)
        .await
        .expect("a row");
    shown.look(&tx);
    shown.look(Reader::from(&mut tx));
    shown.look(RoleAdmin::new(&mut tx));
    shown.look(tx.savepoint().await.expect("set"));
    let entry = TrailEntry::new("pay").object("c4n4ry", "c4n4ry");
    let entry = entry.after(json!({ "c4n4ry": "c4n4ry" }));
    Trail::record(&mut tx, &entry).await.expect("recorded");
    let number = NumberSeries::new("invoice").next(&mut tx).await;
    shown.look(number.expect("a number"));
    tx.commit().await.expect("committed");
    let mut page = Trail::page((&a).into(), &TrailQuery::new())
        .await
        .expect("a page");
    shown.look(page.pop().expect("an entry"));
    let report = Trail::verify((&a).into()).await.expect("verified");
    shown.look(&report);
    shown.look(report.head().expect("an entry"));

    let mut tx = a.begin().await.expect("begun");
    shown.look(
        tx.copy_in_raw("COPY plain FROM STDIN")
            .await
            .expect("begun"),
    );
    let failed = sqlx::query("SELECT 'c4n4ry'::int").execute(&mut tx).await;
    shown.look(Error::from(failed.expect_err("no number")));
    let failed: CommitError = tx.commit().await.expect_err("aborted");
    shown.look(failed);
    shown.look(a.begin_read_only().await.expect("begun"));

    let dangerous = registry.dangerous().expect("configured");
    shown.look(&dangerous);
    let mut tx = dangerous.begin("c4n4ry", "c4n4ry").await.expect("begun");
    tx.execute("SELECT 'c4n4ry'").await.expect("a row");
    shown.look(&tx);
    tx.rollback().await.expect("rolled back");

    let authorizer = Authorizer::builder()
        .subscription(secret(&world.app))
        .build()
        .await
        .expect("an authorizer");
    shown.look(authorizer.check(&a, &permission()).await);
    shown.look(&authorizer);
    shown.look(authorizer.status());

    let status = registry.status();
    shown.look(&status);
    shown.look(status.connections);
    shown.look(*status.servers.values().next().expect("one"));
    let of_a = registry.tenant_status(&tenant("a"));
    shown.look(of_a.unwrap_or_default());
    // Directory, advice and work over all tenants.
    let mut control = Control::start().await;
    control.three().await;
    let reader = secret(&control.reader);
    let directory = PostgresDirectory::builder(reader)
        .server("main", secret(&world.app))
        .server("other", secret(&world.app))
        .connect()
        .await
        .expect("a directory");
    shown.look(&directory);
    let known = directory.find(&tenant("a")).await.expect("asked");
    shown.look(known.expect("a tenant"));
    let unique = "CREATE TABLE advised (body text UNIQUE)";
    admin.execute(unique).await.expect("a table");
    let table = installation().table("advised");
    table.apply(&mut admin).await.expect("applied");
    let advice = table.advice(&mut admin).await.expect("advice");
    shown.look(advice.first().expect("of the unique column"));
    shown.look(advice[0].rule());
    let pool = PgPool::connect_with(world.admin.clone()).await;
    let pool = pool.expect("connected");
    let audited = Auditor::new(installation()).run(&pool).await;
    let audited = audited.expect("audited");
    shown.look(audited.findings().next().expect("at least an info"));
    shown.look(audited.sarif());
    shown.look(audited);
    // A table that takes no row that is made up is told.
    let odd = "CREATE TABLE odd (tenant_id text NOT NULL, place point NOT NULL); GRANT SELECT ON odd TO app";
    admin.execute(odd).await.expect("a table");
    let database = world.admin.get_database().expect("it has one");
    let probe = Probe::of(database);
    let probed = Auditor::new(installation()).probe(&pool, &probe).await;
    let probed = probed.expect("probed");
    shown.look(probed.unseen().next().expect("the table"));
    shown.look(probed);
    let report = registry
        .for_each_tenant(ForEachTenant::default(), |_| async { Ok::<_, Error>(()) })
        .await;
    shown.look(&report);
    let failed: tenantry::ForEachError<Error> =
        tenantry::ForEachError::Work(Error::directory("c4n4ry"));
    shown.look(failed);
    shown.look(registry.shutdown(Duration::from_secs(20)).await);
}

struct ReadInvoices;

impl RequiredPermission for ReadInvoices {
    const PERMISSION: Permission = Permission::new("invoices", "read");
}

/// What a service meets, in a request that has something secret everywhere.
async fn requests(shown: &Shown, world: &World) {
    let mut admin = world.admin().await;
    admin
        .execute(
            "INSERT INTO tenantry.members (tenant_id, user_id) VALUES ('a', 'c4n4ry user'); \
             INSERT INTO tenantry.roles (tenant_id, role) VALUES ('a', 'clerk'); \
             INSERT INTO tenantry.role_permissions (tenant_id, role, resource, action, effect) \
               VALUES ('a', 'clerk', 'invoices', 'read', 'grant'); \
             INSERT INTO tenantry.member_roles (tenant_id, user_id, role) \
               VALUES ('a', 'c4n4ry user', 'clerk')",
        )
        .await
        .expect("a member");
    let directory = StaticDirectory::new().shared_by_all(secret(&world.app));
    let registry = TenantRegistry::builder(directory)
        .settings(names())
        .build()
        .await
        .expect("a registry");
    let authorizer = Authorizer::builder().build().await.expect("an authorizer");
    let signer = issuer::Signer::hs256(issuer::SECRET);
    let mut claims = issuer::claims();
    claims["sub"] = json!("c4n4ry user");
    claims["org"] = json!("a");
    let token = signer.sign(&issuer::header("HS256", None), &claims);
    let tenants = TenantLayer::new(registry, issuer::resolver(issuer::hs256()));
    let tenants = tenants.authorizer(authorizer);
    let transactions = TransactionLayer::new();
    let required = RequirePermission::new(permission());
    shown.look(&tenants);
    shown.look(&transactions);
    shown.look(&required);

    let handler = get(
        async |Extension(shown): Extension<Shown>,
               scope: Scope,
               permitted: Permitted<ReadInvoices>,
               lazy: LazyTx| {
            shown.look(&scope);
            shown.look(&permitted);
            shown.look(&lazy);
            let mut tx: Tx = lazy.begin().await?;
            sqlx::query("SELECT $1")
                .bind("c4n4ry")
                .execute(&mut *tx)
                .await?;
            shown.look(&tx);
            tx.commit().await?;
            Ok::<_, Rejection>("shown")
        },
    );
    let inner = Router::new()
        .route("/", handler)
        .layer(Extension(shown.clone()));
    let with_permission = required.layer(inner.clone());
    shown.look(&with_permission);
    shown.look(transactions.layer(inner.clone()));
    shown.look(tenants.layer(inner.clone()));
    let service = inner.layer(required).layer(transactions).layer(tenants);
    let request = Request::get("/?c4n4ry=c4n4ry")
        .header("authorization", format!("Bearer {token}"))
        .header("cookie", "c4n4ry")
        .body(Body::from("c4n4ry"))
        .expect("a request");
    let answer = service.clone().oneshot(request).await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 200, "{answer:?}");
    let refused = Request::get("/c4n4ry")
        .header("authorization", "Bearer c4n4ry")
        .body(Body::empty())
        .expect("a request");
    let answer = service.oneshot(refused).await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 401);
    let headers = format!("{:?}", answer.headers());
    let body = axum::body::to_bytes(answer.into_body(), 65_536).await;
    let body = format!("{headers} {:?}", body.expect("a body"));
    assert!(!body.contains(CANARY), "{body}");
}

async fn files(shown: &Shown) {
    let folder = Folder::new();
    let builder = SqliteRegistry::open(folder.path());
    shown.look(&builder);
    shown.look(SqlitePoolOptions::default());
    shown.look(SqliteSynchronous::Full);
    let registry = builder.build().await.expect("a registry");
    shown.look(&registry);
    assert!(registry.create(&tenant("a")).await.expect("made"));
    let a = registry.scope(context()).await.expect("a scope");
    shown.look(&a);
    let mut tx = a.begin().await.expect("begun");
    sqlx::query("SELECT ?, 'c4n4ry'")
        .bind("c4n4ry")
        .execute(&mut tx)
        .await
        .expect("a row");
    shown.look(&tx);
    drop(tx);
    shown.look(a.begin_read_only().await.expect("begun"));
    shown.look(registry.status());
    shown.look(registry.tenant_status(&tenant("a")).expect("open"));
}
