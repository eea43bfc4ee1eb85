//! Other ways to come to an invoice number, as services have them.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use tenantry::jwt::JwtResolver;
use tenantry::sql::{Installation, TenantType};
use tenantry::web::{Permitted, Rejection, TenantLayer};
use tenantry::{Error, ErrorKind, TenantScope, TenantTx, TxOptions};

use crate::Failure;
use crate::api::CreateInvoices;
use crate::invoices::{Invoice, NewInvoice};
use crate::practice::Practice;

pub fn router(practice: Practice, resolver: JwtResolver) -> Router {
    let tenants = TenantLayer::new(practice.registry.clone(), resolver)
        .authorizer(practice.authorizer.clone());
    Router::new()
        .route("/specimens/retry", post(retry))
        .route("/specimens/for-update", post(for_update))
        .route("/specimens/counter", post(counter))
        .layer(tenants)
        .with_state(practice)
}

/// A counter row of the plain kind.
pub async fn install(
    owner: &mut PgConnection,
    organisation: &str,
    last: i64,
) -> Result<(), Failure> {
    owner
        .execute("CREATE TABLE counters (tenant_id text PRIMARY KEY, last bigint NOT NULL)")
        .await?;
    Installation::new("invoices_bench")
        .tenant_column("tenant_id", TenantType::Text)
        .table("counters")
        .apply(owner)
        .await?;
    let insert = format!("INSERT INTO counters VALUES ('{organisation}', {last})");
    owner.execute(AssertSqlSafe(insert)).await?;
    Ok(())
}

type Answer = Result<(StatusCode, Json<Invoice>), Rejection>;
type Scope = Permitted<CreateInvoices>;

async fn retry(_: State<Practice>, scope: Scope, Json(draft): Json<NewInvoice>) -> Answer {
    tried_again(Way::Retry, &scope, &draft).await
}

async fn for_update(_: State<Practice>, scope: Scope, Json(draft): Json<NewInvoice>) -> Answer {
    tried_again(Way::ForUpdate, &scope, &draft).await
}

async fn counter(_: State<Practice>, scope: Scope, Json(draft): Json<NewInvoice>) -> Answer {
    tried_again(Way::Counter, &scope, &draft).await
}

#[derive(Clone, Copy)]
enum Way {
    /// The first cure of the report: whoever lost the race waits for 50 to 150 ms and tries again,
    /// five times at most.
    Retry,
    /// Its final cure: all invoices of the organisation are locked, for 3 s at most, and the first
    /// one is the fallback.
    ForUpdate,
    /// A counter row that stays locked until the client commits.
    Counter,
}

impl Way {
    fn next_number(self) -> &'static str {
        match self {
            Self::Retry => {
                "SELECT split_part(number, '-', 3)::bigint + 1 FROM invoices \
                 ORDER BY number DESC LIMIT 1"
            }
            Self::ForUpdate => {
                "SELECT max(split_part(number, '-', 3)::bigint) + 1 \
                 FROM (SELECT number FROM invoices FOR UPDATE) AS locked"
            }
            Self::Counter => "UPDATE counters SET last = last + 1 RETURNING last",
        }
    }
}

async fn tried_again(way: Way, scope: &TenantScope, draft: &NewInvoice) -> Answer {
    let mut attempts = 1;
    loop {
        match attempt(way, scope, draft).await {
            Ok(invoice) => return Ok((StatusCode::CREATED, Json(invoice))),
            Err(error) if error.constraint() == Some("an_invoice_belongs_to_a_case") => {
                return Err(Rejection::new(422, "no-such-case", "there is no such case"));
            }
            Err(error) if is_race(&error) && attempts < 5 => {
                let wait = Duration::from_millis(fastrand::u64(50..=150));
                tokio::time::sleep(wait).await;
                attempts += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn attempt(way: Way, scope: &TenantScope, draft: &NewInvoice) -> Result<Invoice, Error> {
    let options = TxOptions::default().lock_timeout(Duration::from_secs(3));
    let mut tx = scope.begin_with(&options).await?;
    let number = sqlx::query_scalar(way.next_number());
    let number: i64 = number.fetch_one(&mut tx).await?;
    save(tx, number, draft).await
}

fn is_race(error: &Error) -> bool {
    error.kind() == ErrorKind::Conflict || error.is_retryable()
}

/// What is left of saving an invoice when its number is there: as ours, in one statement.
async fn save(mut tx: TenantTx, number: i64, draft: &NewInvoice) -> Result<Invoice, Error> {
    let organisation = tx.context().tenant().as_str();
    let prefix = format!("INV-{}", organisation.to_ascii_uppercase());
    let save = sqlx::query_as(SAVE)
        .bind(format!("{prefix}-{number:05}"))
        .bind(draft.case_id)
        .bind(draft.amount);
    let invoice = save.fetch_one(&mut tx).await?;
    tx.commit().await?;
    Ok(invoice)
}

const SAVE: &str = "
    WITH invoice AS (
        INSERT INTO invoices (number, case_id, amount) VALUES ($1, $2, $3)
        RETURNING id, number, case_id, amount, paid),
    entry AS (
        INSERT INTO journal_entries (id, what) SELECT id, 'invoice' FROM invoice),
    booked AS (
        INSERT INTO postings (entry_id, account, amount)
        SELECT id, 'receivables', amount FROM invoice
        UNION ALL SELECT id, 'fees', -amount FROM invoice)
    SELECT invoice.*, tenantry.record_in_trail(
        'invoice.issue', 'invoice', id::text, NULL, to_jsonb(invoice)) IS NULL AS recorded
    FROM invoice";
