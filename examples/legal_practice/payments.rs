//! Payments: each settles part of an invoice and is booked with it.

use serde::{Deserialize, Serialize};
use serde_json::json;
use tenantry::repository::ReadRepository as _;
use tenantry::{Error, Reader, TenantTx, Trail, TrailEntry};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::invoices::PgInvoices;

#[derive(Clone, Debug, Serialize, Deserialize, sqlx::FromRow, ToSchema)]
pub struct Payment {
    pub id: Uuid,
    pub invoice_id: Uuid,
    /// Cents.
    pub amount: i64,
    /// What the bank calls it. A payment that is reported twice is kept once.
    pub reference: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NewPayment {
    /// Cents.
    pub amount: i64,
    pub reference: String,
}

/// What an account holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, sqlx::FromRow, ToSchema)]
pub struct Balance {
    pub account: String,
    /// Cents; a debit is above zero.
    pub balance: i64,
}

/// The repository.
pub struct PgPayments;

impl PgPayments {
    /// Invoice, payment, postings and audit log are kept together or not at all.
    pub async fn receive(
        &self,
        tx: &mut TenantTx,
        invoice: Uuid,
        draft: &NewPayment,
    ) -> Result<Payment, Error> {
        // First the invoice: payments for one take turns here. That more is paid than was asked
        // for is refused by the table.
        let paid = sqlx::query(PAY).bind(invoice).bind(draft.amount);
        if paid.execute(&mut *tx).await?.rows_affected() == 0 {
            PgInvoices.get(Reader::from(&mut *tx), &invoice).await?;
        }
        let receive = sqlx::query_as(RECEIVE)
            .bind(invoice)
            .bind(draft.amount)
            .bind(&draft.reference);
        let payment: Payment = receive.fetch_one(&mut *tx).await?;
        sqlx::query(ENTRY)
            .bind(payment.id)
            .execute(&mut *tx)
            .await?;
        let post = sqlx::query(POST).bind(payment.id).bind(payment.amount);
        post.execute(&mut *tx).await?;
        let entry = TrailEntry::new("payment.receive")
            .object("invoice", invoice)
            .after(json!(payment));
        Trail::record(tx, &entry).await?;
        Ok(payment)
    }

    pub async fn balances(&self, mut reader: Reader<'_>) -> Result<Vec<Balance>, Error> {
        Ok(sqlx::query_as(BALANCES).fetch_all(&mut reader).await?)
    }
}

const PAY: &str = "UPDATE invoices SET paid = paid + $2 WHERE id = $1";

const RECEIVE: &str = "INSERT INTO payments (invoice_id, amount, reference) VALUES ($1, $2, $3) \
    RETURNING id, invoice_id, amount, reference";

const ENTRY: &str = "INSERT INTO journal_entries (id, what) VALUES ($1, 'payment')";

const POST: &str = "INSERT INTO postings (entry_id, account, amount) \
    VALUES ($1, 'bank', $2), ($1, 'receivables', -$2)";

const BALANCES: &str = "SELECT account, sum(amount)::bigint AS balance FROM postings \
    GROUP BY account ORDER BY account";
