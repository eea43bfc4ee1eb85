//! How an invoice comes by its number.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tenantry::{Error, NumberSeries, RetryPolicy, TenantScope, TenantTx, TxOptions};

pub const SERIES: &str = "invoice";

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Ours: one statement takes the number and inserts the row.
    Statement,
    /// Ours: the number is taken in a transaction.
    Transaction,
    /// The first cure of the field report: read the highest, insert, and on a duplicate try again
    /// after 50 to 150 ms, up to five times in all.
    RetryLoop,
    /// Its second cure: lock all invoices of the tenant first, for up to 3 s, with the same retries.
    ForUpdate,
    /// What others do: one counter row, locked from the client's first statement to its COMMIT.
    CounterRow,
}

impl Way {
    pub const ALL: [Self; 5] = [
        Self::Statement,
        Self::Transaction,
        Self::CounterRow,
        Self::ForUpdate,
        Self::RetryLoop,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Statement => "tenantry, one statement",
            Self::Transaction => "tenantry, in a transaction",
            Self::RetryLoop => "specimen: highest number and retries",
            Self::ForUpdate => "specimen: FOR UPDATE over all invoices",
            Self::CounterRow => "a counter row over client round trips",
        }
    }

    /// Saves an invoice. `attempts` counts all that were begun.
    pub async fn save(self, scope: &TenantScope, attempts: &AtomicUsize) -> Result<(), Error> {
        if self == Self::Statement {
            return NumberSeries::retry_policy()
                .run(|| {
                    attempts.fetch_add(1, Ordering::Relaxed);
                    statement(scope)
                })
                .await;
        }
        let policy = RetryPolicy::default()
            .max_attempts(5)
            .min_delay(Duration::from_millis(50))
            .delays(Duration::from_millis(150), Duration::from_millis(150))
            .max_elapsed(Duration::from_secs(600))
            .on_lock_timeout();
        let options = match self {
            Self::RetryLoop => TxOptions::default().retry(unique(policy)),
            Self::ForUpdate => TxOptions::default()
                .lock_timeout(Duration::from_secs(3))
                .retry(unique(policy)),
            _ => TxOptions::default()
                .lock_timeout(Duration::from_secs(3))
                .retry(policy),
        };
        scope
            .transaction(options, |tx| {
                attempts.fetch_add(1, Ordering::Relaxed);
                Box::pin(async move {
                    let n = match self {
                        Self::Transaction => series().next(tx).await?.value(),
                        Self::CounterRow => {
                            ask(tx, "UPDATE counters SET n = n + 1 RETURNING n").await?
                        }
                        Self::ForUpdate => {
                            // Behind the lock, or it would not see what was committed meanwhile.
                            ask(tx, LOCK_ALL).await?;
                            ask(tx, HIGHEST).await?
                        }
                        _ => ask(tx, HIGHEST).await?,
                    };
                    insert(tx, n).await
                })
            })
            .await
    }
}

/// To the credit of the specimen the rows stay in the server.
const LOCK_ALL: &str =
    "SELECT count(*) FROM (SELECT 1 FROM invoices WHERE tenant_id = 'axo' FOR UPDATE) AS locked";

const HIGHEST: &str = "SELECT coalesce(max(n), 0) + 1 FROM invoices WHERE tenant_id = 'axo'";

fn unique(policy: RetryPolicy) -> RetryPolicy {
    policy
        .on_unique_violation("invoices_pkey")
        .on_unique_violation("invoices_number")
}

fn series() -> NumberSeries {
    NumberSeries::new(SERIES).prefix("INV-AXO").width(5)
}

async fn statement(scope: &TenantScope) -> Result<(), Error> {
    sqlx::query(
        "WITH taken AS MATERIALIZED (SELECT value, number FROM tenantry.take_number($1)) \
         INSERT INTO invoices (n, number, customer, amount) \
         SELECT value, number, $2, $3 FROM taken",
    )
    .bind(series())
    .bind("a customer")
    .bind(100)
    .execute(scope)
    .await?;
    Ok(())
}

async fn ask(tx: &mut TenantTx, text: &'static str) -> Result<i64, Error> {
    Ok(sqlx::query_scalar(text).fetch_one(tx).await?)
}

async fn insert(tx: &mut TenantTx, n: i64) -> Result<(), Error> {
    sqlx::query("INSERT INTO invoices (n, number, customer, amount) VALUES ($1, $2, $3, $4)")
        .bind(n)
        .bind(format!("INV-AXO-{n:05}"))
        .bind("a customer")
        .bind(100)
        .execute(tx)
        .await?;
    Ok(())
}
