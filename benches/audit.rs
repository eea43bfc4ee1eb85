//! How long an audit takes, of a hundred tables and of a thousand.
//!
//!     cargo bench --bench audit
//!     cargo bench --bench audit -- --quick

mod support;

#[path = "../tests/support/large_schema.rs"]
mod large_schema;

use sqlx::PgPool;
use support::rounds::{Bench, Ground, Limit, Way};
use tenantry::audit::{Auditor, Severity};
use tenantry::testing::PostgresServer;
use tokio::runtime::{Builder, Runtime};

struct Schema {
    runtime: Runtime,
    pool: PgPool,
    auditor: Auditor,
}

impl Ground for Schema {
    fn runtime(&self) -> &Runtime {
        &self.runtime
    }
}

impl Schema {
    /// Never dropped, as the rounds want it. The server is, at the end.
    fn of(tables: usize) -> (&'static Self, PostgresServer) {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (server, pool) = runtime.block_on(async {
            let server = PostgresServer::builder().setting("fsync", "off").start();
            let server = server
                .await
                .expect("the benches need PostgreSQL: run ./scripts/test");
            let pool = PgPool::connect_with(server.connect_options()).await;
            let pool = pool.expect("connected");
            large_schema::make(&pool, tables).await;
            (server, pool)
        });
        let schema = Self {
            runtime,
            pool,
            auditor: Auditor::new(large_schema::config()),
        };
        (Box::leak(Box::new(schema)), server)
    }

    async fn audit(&'static self) {
        let report = self.auditor.run(&self.pool).await.expect("audited");
        assert!(!report.has(Severity::Low), "{report}");
    }
}

fn main() {
    let [(many, server), (few, _server)] = [1_000, 100].map(Schema::of);
    let version = server.version();
    let version = format!("PostgreSQL {}.{}", version / 10_000, version % 10_000);
    let mut bench = Bench::new(&version);
    let ways = [
        Way::in_turn(many, "1,000 tables, 500 views", |schema, _| schema.audit()),
        Way::in_turn(few, "100 tables, 50 views", |schema, _| schema.audit()),
    ];
    bench.compare_slow("an audit", &ways, &[Limit::none(1)]);
    bench.finish();
}
