//! Sixteen airlines share a service, and 27,004 of their flights prove that none sees another's.
//!
//! ```text
//! cargo run --release --example quickstart --features embedded   # fetches a server if there is none
//! cargo run --release --example quickstart --features testing    # takes the one that is installed
//! cargo run --release --example quickstart --features testing,sqlite -- --files   # needs none
//! ```
//!
//! Each carrier is a tenant. Fifteen share a database; Hawaiian Airlines has one of its own. Many
//! tasks read and write at once for all of them through four connections a database, and no
//! statement says which carrier it is for. Some are cancelled half-way, some panic. Every row that
//! comes back is looked at.

#![allow(
    unreachable_pub,
    reason = "an example exports nothing, and shares files with the tests"
)]

mod carriers;
mod checks;
#[cfg(feature = "sqlite")]
mod files;
mod operations;
mod options;
mod progress;
mod server;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tenantry::TenantRegistry;
use tokio::task::JoinSet;

use carriers::{Carrier, Flights};
use operations::{Deliberate, Operation};
use options::Options;
use progress::Progress;
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
    keep_deliberate_panics_quiet();
    #[cfg(feature = "sqlite")]
    let done = match options.files {
        true => files::run(&options).await,
        false => run(&options).await,
    };
    #[cfg(not(feature = "sqlite"))]
    let done = run(&options).await;
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("\nthe example itself failed: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("  because: {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

/// Whether everything was as it should be.
async fn run(options: &Options) -> Result<bool, Failure> {
    let started = Instant::now();
    println!("starting PostgreSQL and loading the flights");
    let flights = Flights::read()?;
    let databases = Databases::start(&flights).await?;
    println!(
        "PostgreSQL {}: {} flights of {} carriers after {:.1} s, seed {}",
        databases.version(),
        flights.total(),
        flights.carriers.len(),
        started.elapsed().as_secs_f64(),
        options.seed,
    );
    if options.without_isolation {
        databases.drop_policies().await?;
        println!("the policies are dropped: this run must find foreign rows");
    }

    let registry = TenantRegistry::builder(databases.directory(&flights)?)
        .pool_options(|_, options| options.max_connections(4))
        .build()
        .await?;
    let carriers = flights.carriers;
    let worked = Instant::now();
    work(&registry, &carriers, options).await?;
    let seconds = worked.elapsed().as_secs_f64();

    let mut wrong = checks::end(&registry, &carriers).await?;
    let trips = checks::round_trips(&databases).await?;
    wrong.extend(checks::misrouted(&databases).await);
    registry.close();

    print_table(&carriers);
    print_counts(&carriers, options, seconds);
    for (name, count) in &trips {
        println!("  {name:<36} {count:.2}");
        if *count != 1.0 {
            wrong.push(format!("{name} took {count:.2} round trips and not one"));
        }
    }
    databases.stop().await?;
    Ok(verdict(&wrong, started.elapsed().as_secs_f64()))
}

/// So many tasks at a time, each of which takes the next operation.
const TASKS: usize = 64;

async fn work(
    registry: &TenantRegistry,
    carriers: &Arc<[Carrier]>,
    options: &Options,
) -> Result<(), Failure> {
    let next = Arc::new(AtomicU64::new(0));
    let progress = Progress::start(Arc::clone(carriers), options.operations);
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let (registry, carriers, next) =
            (registry.clone(), Arc::clone(carriers), Arc::clone(&next));
        let (seed, operations) = (options.seed, options.operations);
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= operations {
                    return Ok::<_, tenantry::Error>(());
                }
                let operation = Operation::draw(seed, number, carriers.len());
                let carrier = &carriers[operation.carrier];
                let scope = registry.scope(carrier.tenant.clone()).await?;
                operation.carry_out(scope, &carriers).await;
                carrier.operations.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    progress.end().await;
    Ok(())
}

fn print_table(carriers: &[Carrier]) {
    println!(
        "\n{:<7}  {:<27}  {:<9}  {:>11}  {:>13}  {:>12}  {:>10}",
        "carrier", "name", "placement", "rows seen", "rows expected", "foreign rows", "operations"
    );
    let mut sums = [0; 4];
    for carrier in carriers {
        let numbers = [
            carrier.seen.load(Ordering::Relaxed),
            carrier.expected,
            carrier.foreign.load(Ordering::Relaxed),
            carrier.operations.load(Ordering::Relaxed),
        ];
        for (sum, number) in sums.iter_mut().zip(numbers) {
            *sum += number;
        }
        let [seen, expected, foreign, operations] = numbers;
        println!(
            "{:<7}  {:<27}  {:<9}  {seen:>11}  {expected:>13}  {foreign:>12}  {operations:>10}",
            carrier.code,
            carrier.name,
            carrier.placement.name(),
        );
    }
    let [seen, expected, foreign, operations] = sums;
    println!(
        "{:<7}  {:<27}  {:<9}  {seen:>11}  {expected:>13}  {foreign:>12}  {operations:>10}\n",
        "all", "", ""
    );
}

fn print_counts(carriers: &[Carrier], options: &Options, seconds: f64) {
    let sum = |count: fn(&Carrier) -> &AtomicU64| -> u64 {
        carriers
            .iter()
            .map(|carrier| count(carrier).load(Ordering::Relaxed))
            .sum()
    };
    println!(
        "{} operations by {TASKS} tasks in {seconds:.1} s, {} of them cancelled half-way, {} panicked;",
        options.operations,
        sum(|carrier| &carrier.cancelled),
        sum(|carrier| &carrier.panicked),
    );
    println!(
        "{} rows looked at; {} remarks committed, {} of them found again.",
        sum(|carrier| &carrier.looked_at),
        carriers.iter().map(Carrier::committed).sum::<usize>(),
        sum(|carrier| &carrier.found),
    );
    println!("\nround trips on the wire:");
}

fn verdict(wrong: &[String], seconds: f64) -> bool {
    const SHOWN: usize = 12;
    println!();
    if wrong.is_empty() {
        println!("all as it should be, in {seconds:.1} s");
        return true;
    }
    println!("NOT AS IT SHOULD BE, {} findings:", wrong.len());
    for finding in wrong.iter().take(SHOWN) {
        println!("- {finding}");
    }
    if let Some(more @ 1..) = wrong.len().checked_sub(SHOWN) {
        println!("- and {more} more");
    }
    false
}

/// The panics that this example causes on purpose say nothing; all others do.
fn keep_deliberate_panics_quiet() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.payload().is::<Deliberate>() {
            others(panic);
        }
    }));
}
