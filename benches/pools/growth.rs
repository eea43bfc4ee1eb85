//! How many connections the server sees while a client never has more than one statement under
//! way.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgConnection, PgExecutor, PgPool};
use tenantry::{TenantRegistry, TenantScope};

use super::databases::{Databases, STATEMENT, scope, sqlx_pool};
use super::support::rounds::Bench;
use super::support::runtime;

/// How many statements, one after the other.
const STATEMENTS: usize = 50;

#[derive(Clone, Copy)]
enum Kind {
    Ours,
    Sqlx { is_tested: bool },
}

const KINDS: [(&str, Kind); 3] = [
    ("tenantry", Kind::Ours),
    (
        "sqlx, pool, test_before_acquire(false)",
        Kind::Sqlx { is_tested: false },
    ),
    ("sqlx, pool, defaults", Kind::Sqlx { is_tested: true }),
];

enum Fresh {
    Ours(TenantRegistry, TenantScope),
    Sqlx(PgPool),
}

impl Fresh {
    async fn open(kind: Kind, app: PgConnectOptions) -> Self {
        match kind {
            Kind::Ours => {
                let (registry, scope) = scope(app, |defaults| defaults.max_connections(10)).await;
                Self::Ours(registry, scope)
            }
            Kind::Sqlx { is_tested } => Self::Sqlx(sqlx_pool(10, is_tested).connect_lazy_with(app)),
        }
    }

    async fn ask(&self) {
        match self {
            Self::Ours(_, scope) => ask(scope).await,
            Self::Sqlx(pool) => ask(pool).await,
        }
    }

    async fn close(self) {
        match self {
            Self::Ours(registry, _) => registry.close(),
            Self::Sqlx(pool) => pool.close().await,
        }
    }
}

async fn ask(executor: impl PgExecutor<'_>) {
    sqlx::query(STATEMENT)
        .execute(executor)
        .await
        .expect("served");
}

async fn count(admin: &mut PgConnection, application: &str) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM pg_stat_activity WHERE application_name = $1")
        .bind(application)
        .fetch_one(admin)
        .await
        .expect("counted")
}

/// What is there after the statements, once for each of so many fresh pools.
fn after(databases: &Databases, kind: Kind, threads: usize, pools: usize) -> Vec<i64> {
    runtime(threads).block_on(async {
        let mut admin = databases.admin().await;
        let mut counts = Vec::new();
        for number in 0..pools {
            let application = format!("after_{number}");
            let app = databases.app(0).clone().application_name(&application);
            let pool = Fresh::open(kind, app).await;
            for _ in 0..STATEMENTS {
                pool.ask().await;
            }
            counts.push(count(&mut admin, &application).await);
            pool.close().await;
            while count(&mut admin, &application).await > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        counts.sort_unstable();
        counts
    })
}

/// The most that was seen, and in how many looks, while one statement followed the other.
fn sampled(databases: &Databases, kind: Kind, threads: usize, run: Duration) -> (i64, u64) {
    const APPLICATION: &str = "sampled";
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            runtime(1).block_on(async {
                let mut admin = databases.admin().await;
                let (mut most, mut looks) = (0, 0);
                while !is_over.load(Ordering::Relaxed) {
                    most = most.max(count(&mut admin, APPLICATION).await);
                    looks += 1;
                }
                (most, looks)
            })
        });
        runtime(threads).block_on(async {
            let app = databases.app(0).clone().application_name(APPLICATION);
            let pool = Fresh::open(kind, app).await;
            let started = Instant::now();
            while started.elapsed() < run {
                pool.ask().await;
            }
            is_over.store(true, Ordering::Relaxed);
            pool.close().await;
        });
        sampler.join().expect("sampled")
    })
}

pub fn measure(bench: &mut Bench, databases: &Databases) {
    let pools = bench.effort(10, 40);
    let run = Duration::from_secs(bench.effort(1, 5) as u64);
    let mut out = format!(
        "connections in pg_stat_activity after {STATEMENTS} statements one after the other, up to \
         10 allowed: least, median, most of {pools} fresh pools; and the most in {} s of statements\n",
        run.as_secs(),
    );
    for threads in [1, 2] {
        for (name, kind) in KINDS {
            let counts = after(databases, kind, threads, pools);
            let (most, looks) = sampled(databases, kind, threads, run);
            let _ = writeln!(
                out,
                "  {:2} {:2} {:2}; {most:2} in {looks:5} looks  {name}, runtime of {threads}",
                counts[0],
                counts[counts.len() / 2],
                counts[counts.len() - 1],
            );
        }
    }
    bench.report(&out);
}
