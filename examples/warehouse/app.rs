//! The service as it runs: HTTP and a worker for each tenant, until it is told to stop.

use std::time::Duration;

use tenantry::{TenantId, TenantRegistry};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::Failure;
use crate::worker::Rounds;
use crate::{api, worker};

pub struct App {
    registry: TenantRegistry,
    stop: watch::Sender<bool>,
    http: JoinHandle<std::io::Result<()>>,
    workers: JoinSet<(TenantId, Rounds)>,
}

impl App {
    /// Takes requests on `listener`; each of `tenants` gets a worker.
    pub async fn start(
        listener: TcpListener,
        registry: TenantRegistry,
        tenants: &[TenantId],
        every: Duration,
    ) -> Result<Self, Failure> {
        let (stop, stopped) = watch::channel(false);
        let mut workers = JoinSet::new();
        for tenant in tenants {
            let scope = registry.scope(tenant.clone()).await?;
            let (tenant, stopped) = (tenant.clone(), stopped.clone());
            workers.spawn(async move { (tenant, worker::run(scope, every, stopped).await) });
        }
        let http = axum::serve(listener, api::router(registry.clone()))
            .with_graceful_shutdown(until(stopped));
        Ok(Self {
            registry,
            stop,
            http: tokio::spawn(http.into_future()),
            workers,
        })
    }

    /// Takes no more requests, brings to an end what is under way, and closes the connections.
    pub async fn stop(mut self) -> Result<Vec<(TenantId, Rounds)>, Failure> {
        self.stop.send_replace(true);
        let finished = tokio::time::timeout(PATIENCE, &mut self.http).await;
        self.http.abort();
        let mut rounds = Vec::new();
        while let Some(worker) = self.workers.join_next().await {
            rounds.push(worker?);
        }
        let end = self.registry.shutdown(PATIENCE).await;
        if !end.is_clean() {
            eprintln!("still busy: {:?}", end.still_busy);
        }
        match finished {
            Ok(http) => http??,
            Err(_) => return Err("some requests took too long and were broken off".into()),
        }
        Ok(rounds)
    }
}

/// How long requests may take when the service is told to stop.
const PATIENCE: Duration = Duration::from_secs(10);

async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means that nobody is left who could say it.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
