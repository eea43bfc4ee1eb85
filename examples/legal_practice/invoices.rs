//! Invoices: numbered without a gap, booked as they are issued, and not changed afterwards.

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use serde::{Deserialize, Serialize};
use tenantry::repository::{Page, PageRequest, Pager, ReadRepository, stream_rows};
use tenantry::{Error, NumberSeries, Reader, TenantId, TenantScope};
use utoipa::ToSchema;
use uuid::Uuid;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, sqlx::FromRow, ToSchema)]
pub struct Invoice {
    pub id: Uuid,
    /// `INV-AXO-00001`.
    pub number: String,
    pub case_id: Uuid,
    /// Cents.
    pub amount: i64,
    /// How much of it has been paid, in cents.
    pub paid: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NewInvoice {
    pub case_id: Uuid,
    /// Cents.
    pub amount: i64,
}

/// The repository.
pub struct PgInvoices;

impl PgInvoices {
    /// Takes the next number, makes the invoice, books it, and records it in the audit log: one
    /// statement, which is a transaction of its own. The counter is locked for as long as it runs,
    /// and no client is waited for meanwhile. If any of it fails, the number is not taken.
    pub async fn issue(
        &self,
        scope: &TenantScope,
        series: &NumberSeries,
        draft: &NewInvoice,
    ) -> Result<Invoice, Error> {
        let issue = sqlx::query_as(ISSUE)
            .bind(series)
            .bind(draft.case_id)
            .bind(draft.amount);
        Ok(issue.fetch_one(scope).await?)
    }
}

/// `INV-AXO-00001` for the organisation `axo`.
pub fn series(organisation: &TenantId) -> NumberSeries {
    NumberSeries::new("invoice")
        .prefix(format!(
            "INV-{}",
            organisation.as_str().to_ascii_uppercase()
        ))
        .width(5)
}

#[async_trait]
impl ReadRepository for PgInvoices {
    type Id = Uuid;
    type Row = Invoice;

    async fn find(&self, mut reader: Reader<'_>, id: &Uuid) -> Result<Option<Invoice>, Error> {
        Ok(sqlx::query_as(FIND)
            .bind(id)
            .fetch_optional(&mut reader)
            .await?)
    }

    /// By number.
    async fn page(
        &self,
        mut reader: Reader<'_>,
        request: &PageRequest,
    ) -> Result<Page<Invoice>, Error> {
        let pager = Pager::<String>::new(reader.context(), "invoices by number", request)?;
        let query = match pager.after() {
            None => sqlx::query_as(FIRST),
            Some(number) => sqlx::query_as(LATER).bind(number),
        };
        let invoices = query.bind(pager.fetch()).fetch_all(&mut reader).await?;
        pager.page(invoices, |invoice: &Invoice| invoice.number.clone())
    }

    fn stream<'r>(&'r self, reader: Reader<'r>) -> BoxStream<'r, Result<Invoice, Error>> {
        stream_rows(reader, sqlx::query_as(ALL))
    }
}

const FIND: &str = "SELECT id, number, case_id, amount, paid FROM invoices WHERE id = $1";

const ALL: &str = "SELECT id, number, case_id, amount, paid FROM invoices";

const FIRST: &str = "SELECT id, number, case_id, amount, paid FROM invoices \
    ORDER BY number LIMIT $1";

const LATER: &str = "SELECT id, number, case_id, amount, paid FROM invoices \
    WHERE number > $1 ORDER BY number LIMIT $2";

const ISSUE: &str = "
    WITH invoice AS (
        INSERT INTO invoices (number, case_id, amount) VALUES (tenantry.next_number($1), $2, $3)
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
