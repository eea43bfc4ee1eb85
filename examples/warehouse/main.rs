//! A small warehouse management system over HTTP, with a database for each tenant.
//!
//! ```text
//! cargo run --example warehouse --features embedded    # fetches a server if there is none
//! cargo run --example warehouse --features testing     # takes the one that is installed
//! ```
//!
//! What is for which tenant goes from hand to hand as an argument: the request names the tenant
//! (`tenants`), the handler gets its scope (`api`), the service gets its repository (`service`), and
//! the repository is constructed with the scope (`repository`). `tests/warehouse.rs` drives it, and
//! the design that it replaces.

#![allow(
    unreachable_pub,
    reason = "an example exports nothing, and shares files with the tests"
)]

mod api;
mod app;
mod options;
mod problem;
mod registry;
mod repository;
mod server;
mod service;
mod stock;
mod tenants;
mod worker;

use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::Duration;

use tokio::net::TcpListener;

use app::App;
use options::Options;
use server::Databases;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let options = match Options::read() {
        Ok(Some(options)) => options,
        Ok(None) => return ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}\n\n{}", options::HELP);
            return ExitCode::from(2);
        }
    };
    match run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the warehouse is closed: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("  because: {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<(), Failure> {
    // Before anything is made: this is what is most likely to be in the way.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await?;
    let (server, admin) = match options.database {
        Some(admin) => (None, admin),
        None => {
            println!("starting PostgreSQL");
            let server = server::own().await?;
            let admin = server.connect_options();
            (Some(server), admin)
        }
    };
    let tenants = server::tenants(options.tenants)?;
    let databases = Databases::prepare(admin, "warehouse", tenants).await?;
    let registry = registry::build(databases.directory(), MAX_POOLS).await?;
    let port = listener.local_addr()?.port();
    let app = App::start(listener, registry, databases.tenants(), EVERY).await?;
    print_how_to_ask(&databases, port);

    tokio::signal::ctrl_c().await?;
    println!("\nfinishing what is under way");
    for (tenant, rounds) in app.stop().await? {
        println!("the worker of {tenant} placed {} orders", rounds.orders);
    }
    if let Some(server) = server {
        server.stop().await?;
    }
    Ok(())
}

/// How often a worker looks whether something runs low.
const EVERY: Duration = Duration::from_secs(1);

/// How many tenants have their pools open at a time.
const MAX_POOLS: usize = 100;

fn print_how_to_ask(databases: &Databases, port: u16) {
    let tenants = databases.tenants();
    let first = &tenants[0];
    let last = &tenants[tenants.len() - 1];
    println!("{} tenants, each in a database of its own:", tenants.len());
    for tenant in tenants.iter().take(8) {
        println!("  http://{tenant}.{}:{port}/products", tenants::DOMAIN);
    }
    println!(
        "\ntry:\n\
         \x20 curl -s http://{first}.localhost:{port}/products\n\
         \x20 curl -s http://{first}.localhost:{port}/products/sku-1/moves \\\n\
         \x20   -H 'content-type: application/json' \\\n\
         \x20   -d '{{\"kind\":\"ship\",\"quantity\":5,\"reference\":\"note-1\"}}'\n\
         \x20 curl -s -H 'x-tenant: {last}' http://127.0.0.1:{port}/products/sku-1\n\
         \x20 curl -s -H 'x-tenant: {last}' http://127.0.0.1:{port}/orders\n\
         \x20 curl -s -H 'x-tenant: nobody' http://127.0.0.1:{port}/orders\n\
         \nCtrl-C ends it"
    );
}
