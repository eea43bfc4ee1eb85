//! Saving invoices of one organisation over HTTP, with 200 clients at once: the legal practice as it
//! is, and with the cures of the field report for numbers that two took at once.
//!
//! ```text
//! cargo bench --bench invoices --features actix,axum,jwt,redis
//! cargo bench --bench invoices --features actix,axum,jwt,redis -- --quick
//! ```
//!
//! All ways check the token and the permission, book the invoice and record it, in the same
//! framework on the same pool; they differ in how they come to a number. Each has an organisation of
//! its own with 10,000 invoices at the beginning, and a tenth of the requests fails after the number
//! was taken.

#![allow(
    unreachable_pub,
    dead_code,
    missing_docs,
    reason = "modules of the example and its tests, which use them otherwise"
)]

#[path = "../../examples/legal_practice/api/mod.rs"]
mod api;
#[path = "../../examples/legal_practice/app.rs"]
mod app;
#[path = "../../examples/legal_practice/cases.rs"]
mod cases;
#[path = "../../examples/legal_practice/database.rs"]
mod database;
#[path = "../../examples/legal_practice/invoices.rs"]
mod invoices;
#[path = "../../examples/legal_practice/members.rs"]
mod members;
#[path = "../../examples/legal_practice/options.rs"]
mod options;
#[path = "../../examples/legal_practice/payments.rs"]
mod payments;
#[path = "../../examples/legal_practice/practice.rs"]
mod practice;
#[path = "../../examples/legal_practice/record.rs"]
mod record;
#[path = "../../examples/legal_practice/tokens.rs"]
mod tokens;

#[path = "../../tests/warehouse/client.rs"]
mod client;
#[path = "../../tests/legal_practice/load.rs"]
mod load;
#[path = "../support/report.rs"]
mod report;
mod specimens;

use std::process::ExitCode;

use sqlx::{Executor as _, PgConnection};
use tenantry::testing::PostgresServer;
use uuid::Uuid;

use database::{Database, ORGANISATIONS};
use load::{Load, Tally};
use report::Report;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const CLIENTS: usize = 200;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(run()).expect("measured")
}

async fn run() -> Result<ExitCode, Failure> {
    let mut report =
        Report::new("200 clients over HTTP, one organisation, 10,000 invoices to begin with");
    let rounds = report.effort(1, 3, 5);
    let requests = report.effort(200, 1_000, 4_000) as u64;
    let server = PostgresServer::start().await?;
    let database = Database::prepare(server.connect_options(), "invoices_bench").await?;
    let practice = app::practice(database.service.clone(), None).await?;
    let mut owner = database::connect(&database.owner).await?;
    let mut ways = Vec::new();
    for (way, organisation) in WAYS.into_iter().zip(ORGANISATIONS) {
        let case = begin_with(&mut owner, organisation, 10_000).await?;
        let token = practice.tokens.sign("partner", &organisation.parse()?)?;
        ways.push((way, case, token));
    }
    specimens::install(&mut owner, ORGANISATIONS[3], 10_000).await?;
    owner.execute("VACUUM ANALYZE").await?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let router = specimens::router(practice.clone(), practice.tokens.resolver()?).merge(
        api::axum::router(practice.clone(), practice.tokens.resolver()?),
    );
    let service = tokio::spawn(axum::serve(listener, router).into_future());

    let mut found: Vec<(Way, Vec<Tally>)> = WAYS.map(|way| (way, Vec::new())).into();
    for _ in 0..rounds {
        for ((way, tallies), (_, case, token)) in found.iter_mut().zip(&ways) {
            let load = Load {
                address,
                path: way.path,
                token: token.clone(),
                case: *case,
                clients: CLIENTS,
                requests: requests / way.slower,
            };
            tallies.push(load.drive().await);
        }
    }
    report.add("way                        invoices/s   p50 ms   p99 ms   409 and 5xx   not saved");
    for (way, tallies) in &found {
        let [rate, p50, p99] = medians(tallies);
        let asked: u64 = tallies.iter().flat_map(|t| t.answers.values()).sum();
        let unwanted: u64 = tallies.iter().map(Tally::unwanted).sum();
        report.line(&format!(
            "{:<26} {rate:>10.0} {p50:>8.1} {p99:>8.1} {unwanted:>8} of {asked:<6} {:>5.1} %",
            way.name,
            100.0 * unwanted as f64 / asked as f64,
        ));
    }
    let ours = medians(&found[0].1)[0];
    report.add("times the throughput of");
    for (way, tallies) in &found[1..] {
        report.line(&format!(
            "  {:.1}  {}",
            ours / medians(tallies)[0],
            way.name
        ));
    }
    let unwanted: u64 = found[0].1.iter().map(Tally::unwanted).sum();
    report.limit(unwanted as f64, 0.0, "answers 409 and 5xx of ours");
    report.floor(
        ours / medians(&found[2].1)[0],
        5.0,
        "times the throughput of FOR UPDATE over all invoices",
    );
    service.abort();
    practice
        .registry
        .shutdown(std::time::Duration::from_secs(5))
        .await;
    server.stop().await?;
    Ok(report.finish())
}

#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    path: &'static str,
    /// So many times fewer requests than of ours, for all to take about as long.
    slower: u64,
}

const WAYS: [Way; 4] = [
    Way {
        name: "one statement (ours)",
        path: "/invoices",
        slower: 1,
    },
    Way {
        name: "max + 1, tried again",
        path: "/specimens/retry",
        slower: 2,
    },
    Way {
        name: "FOR UPDATE over all",
        path: "/specimens/for-update",
        slower: 10,
    },
    Way {
        name: "counter row, held",
        path: "/specimens/counter",
        slower: 2,
    },
];

/// Throughput, median latency, 99th percentile: each the median of the rounds.
fn medians(tallies: &[Tally]) -> [f64; 3] {
    let of = |value: fn(&Tally) -> f64| {
        let mut values: Vec<f64> = tallies.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    [
        of(Tally::throughput),
        of(|tally| tally.percentile(50)),
        of(|tally| tally.percentile(99)),
    ]
}

/// A case of an organisation with so many invoices, and the counter behind them.
async fn begin_with(
    owner: &mut PgConnection,
    organisation: &str,
    invoices: i64,
) -> Result<Uuid, Failure> {
    let case: Uuid = sqlx::query_scalar(
        "INSERT INTO cases (tenant_id, title, client) VALUES ($1, 'Bench', 'Bench') RETURNING id",
    )
    .bind(organisation)
    .fetch_one(&mut *owner)
    .await?;
    sqlx::query(
        "INSERT INTO invoices (tenant_id, number, case_id, amount) \
         SELECT $1, 'INV-' || upper($1) || '-' || lpad(n::text, 5, '0'), $2, 100 \
         FROM generate_series(1, $3) AS n",
    )
    .bind(organisation)
    .bind(case)
    .bind(invoices)
    .execute(&mut *owner)
    .await?;
    sqlx::query(
        "INSERT INTO tenantry.number_series (tenant, series, period, first, last) \
         VALUES ($1, 'invoice', '', 1, $2)",
    )
    .bind(organisation)
    .bind(invoices)
    .execute(owner)
    .await?;
    Ok(case)
}
