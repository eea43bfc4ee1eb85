//! A connection, a trivial statement, and back.

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgConnection, PgExecutor, PgPool, PgTypeInfo};
use sqlx::{ConnectOptions as _, Encode, Postgres, Type};
use tenantry::TenantScope;
use tokio::runtime::Runtime;
use tokio::sync::Mutex;

use super::databases::{Databases, STATEMENT, TENANTS, registry, sqlx_pool, tenant};
use super::support::rounds::{Bench, Ground, Limit, Way};
use super::support::runtime;

const UNTESTED: usize = 1;
const SAME: usize = 2;
const DEFAULT: usize = 3;

const NAMES: [&str; 5] = [
    "tenantry",
    "sqlx, pool, test_before_acquire(false)",
    "the same, with the scope's argument",
    "sqlx, pool, defaults",
    "sqlx, connection without a pool",
];

/// So many tenants and the ways to their databases.
struct Checkouts {
    runtime: Runtime,
    scopes: Vec<TenantScope>,
    tenants: Vec<String>,
    untested: Vec<PgPool>,
    default: Vec<PgPool>,
    /// The floor.
    bare: Vec<Mutex<PgConnection>>,
}

impl Checkouts {
    fn new(
        databases: &Databases,
        threads: usize,
        tenants: usize,
        connections: u32,
    ) -> &'static Self {
        let runtime = runtime(threads);
        let app = |number: usize| databases.app(number).clone();
        let (mut scopes, mut bare) = (Vec::new(), Vec::new());
        let (mut untested, mut default) = (Vec::new(), Vec::new());
        runtime.block_on(async {
            let options =
                move |defaults: tenantry::PoolOptions| defaults.max_connections(connections);
            let registry = registry((0..tenants).map(app), options).await;
            for number in 0..tenants {
                scopes.push(registry.scope(tenant(number)).await.expect("a scope"));
                let session = app(number).connect().await.expect("a connection");
                bare.push(Mutex::new(session));
                for (pools, is_tested) in [(&mut untested, false), (&mut default, true)] {
                    let pool = sqlx_pool(connections, is_tested).connect_with(app(number));
                    pools.push(pool.await.expect("a pool"));
                }
            }
        });
        Box::leak(Box::new(Self {
            runtime,
            scopes,
            tenants: (0..tenants).map(|number| number.to_string()).collect(),
            untested,
            default,
            bare,
        }))
    }

    /// Which tenant's turn it is.
    fn turn(&self, i: u64) -> usize {
        i as usize % self.tenants.len()
    }
}

impl Ground for Checkouts {
    fn runtime(&self) -> &Runtime {
        &self.runtime
    }
}

/// What a statement of a scope carries, for a statement without a scope: what the context costs
/// is no difference between pools.
struct Argument<'a>([&'a str; 3]);

impl Type<Postgres> for Argument<'_> {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("tenantry.scope")
    }
}

impl Encode<'_, Postgres> for Argument<'_> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        self.0.encode_by_ref(buffer)
    }
}

async fn plain(executor: impl PgExecutor<'_>) {
    let one: i32 = sqlx::query_scalar(STATEMENT)
        .fetch_one(executor)
        .await
        .expect("served");
    assert_eq!(one, 1);
}

async fn ours(ground: &'static Checkouts, i: u64) {
    plain(&ground.scopes[ground.turn(i)]).await;
}

async fn untested(ground: &'static Checkouts, i: u64) {
    plain(&ground.untested[ground.turn(i)]).await;
}

/// Another text than that of the plain statement: sqlx knows prepared statements by their text.
async fn same(ground: &'static Checkouts, i: u64) {
    let turn = ground.turn(i);
    let one: i32 = sqlx::query_scalar("SELECT 1 /* scoped */")
        .bind(Argument(["1", &ground.tenants[turn], ""]))
        .fetch_one(&ground.untested[turn])
        .await
        .expect("served");
    assert_eq!(one, 1);
}

async fn default(ground: &'static Checkouts, i: u64) {
    plain(&ground.default[ground.turn(i)]).await;
}

async fn bare(ground: &'static Checkouts, i: u64) {
    plain(&mut *ground.bare[ground.turn(i)].lock().await).await;
}

fn in_turn(ground: &'static Checkouts) -> [Way; 5] {
    [
        Way::in_turn(ground, NAMES[0], ours),
        Way::in_turn(ground, NAMES[UNTESTED], untested),
        Way::in_turn(ground, NAMES[SAME], same),
        Way::in_turn(ground, NAMES[DEFAULT], default),
        Way::in_turn(ground, NAMES[4], bare),
    ]
}

fn at_once(ground: &'static Checkouts, tasks: u64) -> [Way; 4] {
    [
        Way::at_once(ground, tasks, NAMES[0], ours),
        Way::at_once(ground, tasks, NAMES[UNTESTED], untested),
        Way::at_once(ground, tasks, NAMES[SAME], same),
        Way::at_once(ground, tasks, NAMES[DEFAULT], default),
    ]
}

pub fn compare(bench: &mut Bench, databases: &Databases) {
    let limits = [UNTESTED, SAME, DEFAULT].map(|to| Limit::time(to, 1.00));
    bench.compare(
        "checkout, one task, one tenant, one connection",
        20,
        &in_turn(Checkouts::new(databases, 1, 1, 1)),
        &limits,
    );
    // By the time a tenant's turn comes again, sqlx has tested what came back.
    bench.compare(
        "checkout, one task, the tenants in turn, up to 10 connections each",
        24,
        &in_turn(Checkouts::new(databases, 1, TENANTS, 10)),
        &limits,
    );
    bench.compare(
        "checkout, 32 tasks, one tenant, 8 connections",
        400,
        &at_once(Checkouts::new(databases, 2, 1, 8), 32),
        &[UNTESTED, SAME, DEFAULT].map(|to| Limit::throughput(to, 1.00)),
    );
}
