//! `--files`: the same carriers with a file each, and no server. Sixteen tenants share ten places
//! for open files.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use sqlx::sqlite::SqliteExecutor;
use tenantry::sqlite::{SqliteRegistry, SqliteScope};
use tenantry::testing::cancelled_after;
use tenantry::{Error, EvictionCause};
use tokio::task::JoinSet;

use crate::carriers::{Carrier, Fate, Flights};
use crate::options::Options;
use crate::progress::Progress;
use crate::{Failure, TASKS, verdict};

/// Whether everything was as it should be.
pub async fn run(options: &Options) -> Result<bool, Failure> {
    let started = Instant::now();
    let folder = Folder::new()?;
    let registry = SqliteRegistry::open(&folder.0)
        .max_pools(10)
        .migrate(|tx| {
            Box::pin(async move {
                let tables = "
                    CREATE TABLE IF NOT EXISTS flights (carrier TEXT, day INT, flight INT, dest TEXT);
                    CREATE TABLE IF NOT EXISTS remarks (number INT PRIMARY KEY, carrier TEXT);";
                sqlx::raw_sql(tables).execute(tx).await?;
                Ok(())
            })
        })
        .build()
        .await?;
    let flights = Flights::read()?;
    load(&registry, &flights).await?;
    println!(
        "{} flights in {} files after {:.1} s, seed {}",
        flights.total(),
        registry.tenants().await?.len(),
        started.elapsed().as_secs_f64(),
        options.seed,
    );

    let carriers = flights.carriers;
    let progress = Progress::start(Arc::clone(&carriers), options.operations);
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let (registry, carriers, next) = (registry.clone(), carriers.clone(), next.clone());
        let (seed, operations) = (options.seed, options.operations);
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= operations {
                    return Ok::<_, Error>(());
                }
                let mut random = fastrand::Rng::with_seed(seed ^ (number << 20));
                let carrier = &carriers[random.usize(0..carriers.len())];
                let scope = registry.scope(carrier.tenant.clone()).await?;
                let work = operation(&scope, carrier, number as i64, &mut random);
                match cancelled_after(number as usize % 40 + 1, work).await {
                    Some(done) => done?,
                    None => drop(carrier.cancelled.fetch_add(1, Ordering::Relaxed)),
                }
                carrier.operations.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    progress.end().await;

    for carrier in carriers.iter() {
        check(&registry.scope(carrier.tenant.clone()).await?, carrier).await?;
    }
    println!(
        "{} remarks committed; a file was closed for another {} times",
        carriers.iter().map(Carrier::committed).sum::<usize>(),
        registry.status().evicted(EvictionCause::Capacity),
    );
    let mut wrong: Vec<String> = carriers.iter().flat_map(Carrier::notes).collect();
    registry.shutdown(std::time::Duration::from_secs(10)).await;
    wrong.extend(copied(&folder.0).await?);
    Ok(verdict(&wrong, started.elapsed().as_secs_f64()))
}

/// A file for each carrier, with its flights.
async fn load(registry: &SqliteRegistry, flights: &Flights) -> Result<(), Failure> {
    for text in [&flights.shared, &flights.alone] {
        let mut reader = csv::Reader::from_reader(&text[..]);
        reader.set_headers(csv::StringRecord::new());
        let rows: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>()?;
        for carrier in flights.carriers.iter() {
            let own: Vec<_> = rows.iter().filter(|row| row[9] == *carrier.code).collect();
            if own.is_empty() {
                continue;
            }
            registry.create(&carrier.tenant).await?;
            let mut tx = registry
                .scope(carrier.tenant.clone())
                .await?
                .begin()
                .await?;
            for row in own {
                sqlx::query("INSERT INTO flights VALUES (?, ?, ?, ?)")
                    .bind(row[9].to_owned())
                    .bind(row[2].parse::<i64>()?)
                    .bind(row[10].parse::<i64>()?)
                    .bind(row[13].to_owned())
                    .execute(&mut tx)
                    .await?;
            }
            tx.commit().await?;
        }
    }
    Ok(())
}

/// What a task does; it may be dropped at any of its polls.
async fn operation(
    scope: &SqliteScope,
    carrier: &Carrier,
    number: i64,
    random: &mut fastrand::Rng,
) -> Result<(), Error> {
    if random.bool() {
        look(scope, carrier).await?;
        return Ok(());
    }
    let mut tx = scope.begin().await?;
    carrier.wrote(number, Fate::RolledBack);
    sqlx::query("INSERT INTO remarks VALUES (?, ?)")
        .bind(number)
        .bind(carrier.code.clone())
        .execute(&mut tx)
        .await?;
    look(&mut tx, carrier).await?;
    if random.u32(0..4) > 0 {
        carrier.wrote(number, Fate::Unknown);
        tx.commit().await?;
        carrier.wrote(number, Fate::Committed);
    }
    Ok(())
}

/// Every row says whose it is.
async fn look(executor: impl SqliteExecutor<'_>, carrier: &Carrier) -> Result<u64, Error> {
    let owners: Vec<String> = sqlx::query_scalar("SELECT carrier FROM flights WHERE day = 1")
        .fetch_all(executor)
        .await?;
    Ok(carrier.look_at(owners.iter().map(String::as_str)))
}

async fn check(scope: &SqliteScope, carrier: &Carrier) -> Result<(), Error> {
    let flights: i64 = sqlx::query_scalar("SELECT count(*) FROM flights")
        .fetch_one(scope)
        .await?;
    if flights as u64 != carrier.expected || carrier.foreign.load(Ordering::Relaxed) > 0 {
        carrier.note(format!("{flights} flights, or foreign ones"));
    }
    let found: Vec<i64> = sqlx::query_scalar("SELECT number FROM remarks")
        .fetch_all(scope)
        .await?;
    for (number, fate) in carrier.remarks() {
        let is_there = found.contains(&number);
        if (fate == Fate::Committed && !is_there) || (fate == Fate::RolledBack && is_there) {
            carrier.note(format!("remark {number}: {fate:?}, and there: {is_there}"));
        }
    }
    Ok(())
}

/// Hawaiian's file under United's name is not read.
async fn copied(folder: &Path) -> Result<Option<String>, Failure> {
    std::fs::copy(
        folder.join("tenant-_h_a.sqlite"),
        folder.join("tenant-_u_a.sqlite"),
    )?;
    let registry = SqliteRegistry::open(folder).build().await?;
    let united = registry.scope("UA".parse::<tenantry::TenantId>()?).await?;
    match united.begin().await {
        Err(error) if error.is_misrouted() => Ok(None),
        other => Ok(Some(format!("a wrong file was taken: {other:?}"))),
    }
}

struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, Failure> {
        let name = format!("tenantry-quickstart-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
