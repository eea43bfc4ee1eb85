//! A small practice management system for law firms over HTTP: organisations in one database, the
//! active one in the token.
//!
//! ```text
//! cargo run --example legal_practice --all-features
//! cargo run --example legal_practice --all-features -- --framework axum
//! ```
//!
//! `api/` has the routes in actix and in axum, over the same `practice`. `tests/legal_practice.rs`
//! drives both.

#![allow(
    unreachable_pub,
    reason = "an example exports nothing, and shares files with the tests"
)]

mod api;
mod app;
mod cases;
mod database;
mod invoices;
mod members;
mod options;
mod payments;
mod practice;
mod record;
mod redis;
mod tokens;

use std::net::{Ipv4Addr, TcpListener};
use std::process::ExitCode;

use tenantry::testing::PostgresServer;

use app::App;
use database::{Database, ORGANISATIONS};
use options::{Options, Redis};
use redis::RedisServer;

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
            eprintln!("the practice is closed: {error}");
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
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))?;
    let (server, admin) = match options.database {
        Some(admin) => (None, admin),
        None => {
            println!("starting PostgreSQL");
            let server = PostgresServer::start().await?;
            let admin = server.connect_options();
            (Some(server), admin)
        }
    };
    let (redis, redis_url) = match options.redis {
        Redis::None => (None, None),
        Redis::At(url) => (None, Some(url)),
        Redis::Own => {
            println!("starting Redis");
            let redis = RedisServer::start().await?;
            let url = redis.url();
            (Some(redis), Some(url))
        }
    };
    let database = Database::prepare(admin, "legal_practice").await?;
    let practice = app::practice(database.service, redis_url.as_deref()).await?;
    let port = listener.local_addr()?.port();
    let app = App::start(options.framework, listener, practice)?;
    print_how_to_ask(options.framework, port);

    tokio::signal::ctrl_c().await?;
    println!("\nfinishing what is under way");
    app.stop().await?;
    drop(redis);
    if let Some(server) = server {
        server.stop().await?;
    }
    Ok(())
}

fn print_how_to_ask(framework: options::Framework, port: u16) {
    let [first, second, ..] = ORGANISATIONS;
    println!(
        "served by {framework:?} on http://127.0.0.1:{port}, described at /openapi.json; \
         in each organisation there are partner, bookkeeper and clerk\n\
         \ntry:\n\
         \x20 token() {{ curl -s http://127.0.0.1:{port}/sign-in -H 'content-type: application/json' \\\n\
         \x20   -d \"{{\\\"user\\\":\\\"$1\\\",\\\"organisation\\\":\\\"$2\\\"}}\" | sed 's/.*\"token\":\"\\([^\"]*\\)\".*/\\1/'; }}\n\
         \x20 as() {{ who=$1; org=$2; path=$3; shift 3; curl -s http://127.0.0.1:{port}$path \\\n\
         \x20   -H \"authorization: Bearer $(token $who $org)\" -H 'content-type: application/json' \"$@\"; echo; }}\n\
         \x20 as partner {first} /cases\n\
         \x20 as partner {first} /cases -d '{{\"title\":\"Lease of 1987\",\"client\":\"Harbour Mill\"}}'\n\
         \x20 as partner {first} /invoices -d '{{\"case_id\":\"ID OF THE CASE\",\"amount\":12500}}'\n\
         \x20 as clerk {first} /invoices -d '{{\"case_id\":\"ID OF THE CASE\",\"amount\":12500}}'\n\
         \x20 as partner {second} /cases\n\
         \x20 as partner {first} /trail\n\
         \nCtrl-C ends it"
    );
}
