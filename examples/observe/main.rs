//! The life of a registry, to look at: its metrics for Prometheus while it lives, and a picture of
//! its pools, connections and waits at the end.
//!
//!     cargo run --release --example observe --features metrics,embedded
//!
//! It starts a PostgreSQL server of its own, with 24 tenants that have a database each, and has
//! room for 10 pools and 13 connections. Then come a calm time, one in which everybody comes, a
//! tenant that floods, a job over all tenants, a restart of the server, and calm again.

#![allow(unreachable_pub, reason = "an example has no outside")]

mod life;
mod page;
mod picture;
mod tenants;

use std::error::Error;
use std::time::Duration;

use life::{Life, Recorder};
use tenantry::testing::PostgresServer;
use tenantry::{ConnectionBudget, ForEachTenant, LazyPools, TenantRegistry};
use tenants::Tenants;

const POOLS: usize = 10;
const CONNECTIONS: usize = 13;
const PICTURE: &str = "target/registry-life.svg";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = PostgresServer::start().await?;
    let tenants = Tenants::create(&server, 24).await?;
    let registry = TenantRegistry::builder(tenants.directory())
        .lazy(LazyPools::default().max_pools(POOLS))
        .pool_options(|_, options| options.acquire_timeout(Duration::from_secs(5)))
        .budget(ConnectionBudget::per_server(CONNECTIONS).turn(Duration::from_millis(20)))
        .build()
        .await?;
    let page = page::serve(registry.clone()).await?;
    println!("metrics for Prometheus, as long as this runs: {page}");

    let recorder = Recorder::start(registry.clone());
    let seconds = Duration::from_secs;
    recorder.phase("calm");
    tenants.visit(&registry, 4, 2, seconds(3)).await;
    recorder.phase("everybody");
    tenants.visit(&registry, 24, 24, seconds(3)).await;
    recorder.phase("a flood");
    tokio::join!(
        tenants.visit(&registry, 4, 2, seconds(3)),
        tenants.flood(&registry, 200, seconds(3)),
    );
    recorder.phase("a job");
    let job = registry.for_each_tenant(ForEachTenant::default().concurrency(4), tenants::report);
    let (_, report) = tokio::join!(tenants.visit(&registry, 4, 2, seconds(3)), job);
    recorder.phase("restart");
    let (_, restarted) = tokio::join!(tenants.visit(&registry, 4, 2, seconds(3)), server.restart());
    restarted?;
    recorder.phase("calm");
    tenants.visit(&registry, 4, 2, seconds(3)).await;

    println!("{}", page::text(&registry));
    let life: Life = recorder.stop().await;
    picture::draw(&life, PICTURE)?;
    println!("the picture: {PICTURE}");
    println!(
        "the job: {} tenants done, {} failed",
        report.done.len(),
        report.failed.len()
    );
    let end = registry.shutdown(seconds(10)).await;
    println!(
        "shut down, {}",
        if end.is_clean() {
            "nothing left open"
        } else {
            "not in time"
        }
    );
    println!("{}", life.summary());
    Ok(())
}
