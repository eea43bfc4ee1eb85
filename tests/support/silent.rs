//! A server that never answers.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use tenantry::{Database, StaticDirectory};
use tokio::net::TcpListener;

use super::tenant;

/// Takes connections, counts them, and hangs up on each after a while.
pub struct Silent {
    port: u16,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    accepted: AtomicUsize,
    open: AtomicUsize,
    most: AtomicUsize,
}

impl Silent {
    pub async fn start(patience: Duration) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let silent = Self {
            port,
            counts: Arc::default(),
        };
        let counts = Arc::clone(&silent.counts);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                counts.accepted.fetch_add(1, Ordering::SeqCst);
                let open = counts.open.fetch_add(1, Ordering::SeqCst) + 1;
                counts.most.fetch_max(open, Ordering::SeqCst);
                let counts = Arc::clone(&counts);
                tokio::spawn(async move {
                    tokio::time::sleep(patience).await;
                    counts.open.fetch_sub(1, Ordering::SeqCst);
                    drop(client);
                });
            }
        });
        silent
    }

    pub fn database(&self) -> Database {
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username("app");
        Database::new(options)
    }

    /// Tenants `t0`, `t1`, .. with a database each.
    pub fn tenants(&self, count: usize) -> StaticDirectory {
        let databases = (0..count).map(|n| (tenant(&format!("t{n}")), format!("t{n}")));
        StaticDirectory::new().databases(self.database(), databases)
    }

    pub fn accepted(&self) -> usize {
        self.counts.accepted.load(Ordering::SeqCst)
    }

    pub fn most_at_a_time(&self) -> usize {
        self.counts.most.load(Ordering::SeqCst)
    }
}
