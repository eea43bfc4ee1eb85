//! What the tasks do. No statement here has a WHERE on the carrier, and none needs one.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sqlx::{FromRow, PgExecutor};
use tenantry::testing::cancelled_after;
use tenantry::{Error, Reader, TenantScope, TxOptions};

use crate::carriers::{Carrier, Fate};

/// One operation of one carrier, drawn from the seed and its number alone.
#[derive(Clone, Debug)]
pub struct Operation {
    pub carrier: usize,
    kind: Kind,
    /// After so many polls the future is dropped.
    polls: Option<usize>,
    day: i32,
    /// The numbers of its remarks: this one, and one for each savepoint.
    remark: i64,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    ReadDay,
    CountAll,
    ReadOnly,
    Remark,
    Commit,
    Rollback,
    Drop,
    Retried,
    CheckAll,
    Panic,
}

/// How often each kind is drawn, out of 100.
const KINDS: [(Kind, u32); 10] = [
    (Kind::ReadDay, 25),
    (Kind::CountAll, 10),
    (Kind::ReadOnly, 10),
    (Kind::Remark, 15),
    (Kind::Commit, 15),
    (Kind::Rollback, 7),
    (Kind::Drop, 5),
    (Kind::Retried, 7),
    (Kind::CheckAll, 2),
    (Kind::Panic, 4),
];

/// The payload of a panic that is meant.
pub struct Deliberate;

impl Operation {
    pub fn draw(seed: u64, number: u64, carriers: usize) -> Self {
        let mut random =
            fastrand::Rng::with_seed(seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut left = random.u32(0..100);
        let kind = KINDS.iter().find(|(_, share)| {
            let found = left < *share;
            left = left.saturating_sub(*share);
            found
        });
        Self {
            carrier: random.usize(0..carriers),
            kind: kind.map_or(Kind::ReadDay, |(kind, _)| *kind),
            polls: (random.u32(0..100) < 30).then(|| random.usize(1..14)),
            day: random.i32(1..=31),
            remark: number as i64 * 4,
        }
    }

    /// Everything that goes otherwise than it should is noted on the carrier.
    pub async fn carry_out(self, scope: TenantScope, carriers: &Arc<[Carrier]>) {
        let carrier = &carriers[self.carrier];
        if let Kind::Panic = self.kind {
            let (operation, all) = (self, Arc::clone(carriers));
            let task = tokio::spawn(async move { operation.perform(&scope, &all).await });
            match task.await {
                Err(error) if error.is_panic() => {
                    carrier.panicked.fetch_add(1, Ordering::Relaxed);
                }
                other => carrier.note(format!("a panic ended as {other:?}")),
            }
            return;
        }
        let done = match self.polls {
            Some(polls) => cancelled_after(polls, self.perform(&scope, carriers)).await,
            None => Some(self.perform(&scope, carriers).await),
        };
        match done {
            Some(Ok(())) => {}
            Some(Err(error)) => carrier.note(format!("{:?} failed: {error:?}", self.kind)),
            None => {
                carrier.cancelled.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    async fn perform(&self, scope: &TenantScope, carriers: &Arc<[Carrier]>) -> Result<(), Error> {
        let carrier = &carriers[self.carrier];
        match self.kind {
            Kind::ReadDay => {
                flights_on(scope.into(), self.day, carrier).await?;
            }
            Kind::CountAll => count_all(scope, carrier).await?,
            Kind::ReadOnly => {
                let mut tx = scope.begin_read_only().await?;
                let first = flights_on((&mut tx).into(), self.day, carrier).await?;
                let second = flights_on((&mut tx).into(), self.day, carrier).await?;
                if first != second {
                    carrier.note(format!("{first} flights, and then {second}"));
                }
                tx.commit().await?;
            }
            Kind::Remark => {
                // In autocommit the statement is its own commit.
                carrier.wrote(self.remark, Fate::Unknown);
                remark(scope, self.remark, carrier).await?;
                carrier.wrote(self.remark, Fate::Committed);
            }
            Kind::Commit => self.commit(scope, carrier).await?,
            Kind::Rollback => {
                let mut tx = scope.begin().await?;
                carrier.wrote(self.remark, Fate::RolledBack);
                remark(&mut tx, self.remark, carrier).await?;
                tx.rollback().await?;
            }
            Kind::Drop => {
                let mut tx = scope.begin().await?;
                carrier.wrote(self.remark, Fate::RolledBack);
                remark(&mut tx, self.remark, carrier).await?;
                flights_on((&mut tx).into(), self.day, carrier).await?;
            }
            Kind::Retried | Kind::Panic => self.retried(scope, carriers).await?,
            Kind::CheckAll => check_all(scope, carrier).await?,
        }
        Ok(())
    }

    /// A transaction with two savepoints, one kept and one not.
    async fn commit(&self, scope: &TenantScope, carrier: &Carrier) -> Result<(), Error> {
        let [outside, kept, undone] = [self.remark, self.remark + 1, self.remark + 2];
        let mut tx = scope.begin().await?;
        for number in [outside, kept, undone] {
            carrier.wrote(number, Fate::RolledBack);
        }
        remark(&mut tx, outside, carrier).await?;
        flights_on((&mut tx).into(), self.day, carrier).await?;

        let mut savepoint = tx.savepoint().await?;
        remark(&mut *savepoint, kept, carrier).await?;
        savepoint.release().await?;

        let mut savepoint = tx.savepoint().await?;
        remark(&mut *savepoint, undone, carrier).await?;
        savepoint.rollback().await?;

        for number in [outside, kept] {
            carrier.wrote(number, Fate::Unknown);
        }
        tx.commit().await?;
        for number in [outside, kept] {
            carrier.wrote(number, Fate::Committed);
        }
        Ok(())
    }

    /// The closure that is repeated after a serialization failure, and in which some panic.
    async fn retried(&self, scope: &TenantScope, carriers: &Arc<[Carrier]>) -> Result<(), Error> {
        let options = TxOptions::default().repeatable_read();
        scope
            .transaction(options, |tx| {
                let (operation, carriers) = (self.clone(), Arc::clone(carriers));
                Box::pin(async move {
                    let carrier = &carriers[operation.carrier];
                    carrier.wrote(operation.remark, Fate::RolledBack);
                    remark(&mut *tx, operation.remark, carrier).await?;
                    if let Kind::Panic = operation.kind {
                        std::panic::panic_any(Deliberate);
                    }
                    flights_on(tx.into(), operation.day, carrier).await?;
                    carrier.wrote(operation.remark, Fate::Unknown);
                    Ok::<_, Error>(())
                })
            })
            .await?;
        carriers[self.carrier].wrote(self.remark, Fate::Committed);
        Ok(())
    }
}

#[derive(FromRow)]
struct Flight {
    carrier: String,
}

/// A method of a repository: it reads, so it takes a reader, which a scope and both kinds of
/// transaction can be turned into.
async fn flights_on(mut reader: Reader<'_>, day: i32, carrier: &Carrier) -> Result<u64, Error> {
    let flights: Vec<Flight> =
        sqlx::query_as("SELECT carrier, flight, dest FROM flights WHERE day = $1")
            .bind(day)
            .fetch_all(&mut reader)
            .await?;
    Ok(carrier.look_at(flights.iter().map(|flight| &*flight.carrier)))
}

/// One group is all that a carrier may see, and it has all its flights.
async fn count_all(scope: &TenantScope, carrier: &Carrier) -> Result<(), Error> {
    let groups: Vec<(String, i64)> =
        sqlx::query_as("SELECT carrier, count(*) FROM flights GROUP BY carrier")
            .fetch_all(scope)
            .await?;
    carrier.look_at(groups.iter().map(|(owner, _)| &**owner));
    let own = groups.iter().find(|(owner, _)| *owner == carrier.code);
    let count = own.map_or(0, |(_, count)| *count as u64);
    if count != carrier.expected {
        carrier.note(format!("{count} flights counted"));
    }
    Ok(())
}

/// A write that does not say whose it is: the column's default does.
async fn remark(
    executor: impl PgExecutor<'_>,
    number: i64,
    carrier: &Carrier,
) -> Result<(), Error> {
    let owner: String =
        sqlx::query_scalar("INSERT INTO remarks (number, body) VALUES ($1, $2) RETURNING carrier")
            .bind(number)
            .bind("on time")
            .fetch_one(executor)
            .await?;
    carrier.look_at([&*owner]);
    Ok(())
}

/// An UPDATE with no WHERE at all changes the carrier's flights and no others. One at a time for
/// each carrier, and rolled back.
async fn check_all(scope: &TenantScope, carrier: &Carrier) -> Result<(), Error> {
    let mut tx = scope.begin().await?;
    tx.advisory_lock("check all flights").await?;
    let changed = sqlx::query("UPDATE flights SET checks = checks + 1")
        .execute(&mut tx)
        .await?
        .rows_affected();
    tx.rollback().await?;
    if changed != carrier.expected {
        carrier.note(format!("an UPDATE changed {changed} flights"));
    }
    Ok(())
}
