//! What the practice does, whatever serves it: the rules, and which of them make one transaction.

use std::sync::Arc;

use serde_json::json;
use tenantry::repository::{Page, PageRequest, ReadRepository as _, WriteRepository};
use tenantry::web::Rejection;
use tenantry::{
    Authorizer, Error, Reader, RoleAdmin, TenantContext, TenantRegistry, TenantScope, TenantTx,
    Trail, TrailEntry, TrailQuery,
};
use uuid::Uuid;

use crate::cases::{Case, NewCase};
use crate::invoices::{self, Invoice, NewInvoice, PgInvoices};
use crate::members::{self, Member};
use crate::payments::{Balance, NewPayment, Payment, PgPayments};
use crate::record::{Entry, Older, Verification};
use crate::tokens::Tokens;

/// A repository of cases: the one over PostgreSQL, or a double.
pub type Cases = dyn WriteRepository<Id = Uuid, Row = Case, Draft = NewCase>;

/// A clone is another handle on the same.
#[derive(Clone)]
pub struct Practice {
    pub registry: TenantRegistry,
    pub authorizer: Authorizer,
    pub tokens: Arc<Tokens>,
    pub cases: Arc<Cases>,
}

impl Practice {
    /// A token for a user of an organisation. It is a demonstration: nobody is asked for a password.
    pub async fn sign_in(&self, user: &str, organisation: &str) -> Result<String, Rejection> {
        let context = TenantContext::new(organisation.parse::<tenantry::TenantId>()?).user(user);
        let scope = self.registry.scope(context).await?;
        self.authorizer.require_member(&scope).await?;
        self.tokens.sign(user, scope.tenant()).map_err(|_| INTERNAL)
    }

    pub async fn cases(
        &self,
        scope: &TenantScope,
        request: &PageRequest,
    ) -> Result<Page<Case>, Rejection> {
        Ok(self.cases.page(scope.into(), request).await?)
    }

    pub async fn case(&self, scope: &TenantScope, id: Uuid) -> Result<Case, Rejection> {
        Ok(self.cases.get(scope.into(), &id).await?)
    }

    pub async fn open_case(&self, tx: &mut TenantTx, draft: &NewCase) -> Result<Case, Rejection> {
        let case = self.cases.insert(tx, draft).await.map_err(refused)?;
        let entry = TrailEntry::new("case.open").object("case", case.id);
        Trail::record(tx, &entry.after(json!(case))).await?;
        Ok(case)
    }

    pub async fn change_case(&self, tx: &mut TenantTx, case: &Case) -> Result<Case, Rejection> {
        let before = self.cases.get(Reader::from(&mut *tx), &case.id).await?;
        let after = self.cases.update(tx, case).await.map_err(refused)?;
        let entry = TrailEntry::new("case.change").object("case", case.id);
        let entry = entry.before(json!(before)).after(json!(after));
        Trail::record(tx, &entry).await?;
        Ok(after)
    }

    pub async fn remove_case(
        &self,
        tx: &mut TenantTx,
        id: Uuid,
        version: i64,
    ) -> Result<(), Rejection> {
        let before = self.cases.get(Reader::from(&mut *tx), &id).await?;
        let deleted = self.cases.delete(tx, &id, version).await;
        deleted.map_err(|error| match error.constraint() {
            Some("an_invoice_belongs_to_a_case") => IN_USE,
            _ => refused(error),
        })?;
        let entry = TrailEntry::new("case.remove").object("case", id);
        Trail::record(tx, &entry.before(json!(before))).await?;
        Ok(())
    }

    pub async fn invoices(
        &self,
        scope: &TenantScope,
        request: &PageRequest,
    ) -> Result<Page<Invoice>, Rejection> {
        Ok(PgInvoices.page(scope.into(), request).await?)
    }

    pub async fn invoice(&self, scope: &TenantScope, id: Uuid) -> Result<Invoice, Rejection> {
        Ok(PgInvoices.get(scope.into(), &id).await?)
    }

    pub async fn issue_invoice(
        &self,
        scope: &TenantScope,
        draft: &NewInvoice,
    ) -> Result<Invoice, Rejection> {
        let series = invoices::series(scope.tenant());
        PgInvoices
            .issue(scope, &series, draft)
            .await
            .map_err(refused)
    }

    pub async fn receive_payment(
        &self,
        tx: &mut TenantTx,
        invoice: Uuid,
        draft: &NewPayment,
    ) -> Result<Payment, Rejection> {
        PgPayments
            .receive(tx, invoice, draft)
            .await
            .map_err(refused)
    }

    pub async fn balances(&self, scope: &TenantScope) -> Result<Vec<Balance>, Rejection> {
        Ok(PgPayments.balances(scope.into()).await?)
    }

    /// The newest entries first.
    pub async fn trail(&self, scope: &TenantScope, older: &Older) -> Result<Vec<Entry>, Rejection> {
        let mut query = TrailQuery::new().limit(older.limit.unwrap_or(100).min(1000));
        if let Some(number) = older.than {
            query = query.beyond(number);
        }
        let records = Trail::page(scope.into(), &query).await?;
        Ok(records.iter().map(Entry::from).collect())
    }

    pub async fn verify_trail(&self, scope: &TenantScope) -> Result<Verification, Rejection> {
        Ok(Trail::verify(scope.into()).await?.into())
    }

    pub async fn members(&self, scope: &TenantScope) -> Result<Vec<Member>, Rejection> {
        Ok(members::list(scope.into()).await?)
    }

    pub async fn remove_member(&self, tx: &mut TenantTx, user: &str) -> Result<(), Rejection> {
        if !RoleAdmin::new(tx).remove_member(user).await? {
            return Err(NO_SUCH_MEMBER);
        }
        let entry = TrailEntry::new("member.remove").object("member", user);
        Ok(Trail::record(tx, &entry).await?)
    }

    /// Who has a role is a member.
    pub async fn assign_role(
        &self,
        tx: &mut TenantTx,
        user: &str,
        role: &str,
    ) -> Result<(), Rejection> {
        let mut roles = RoleAdmin::new(tx);
        roles.add_member(user).await?;
        roles.assign(user, role).await?;
        let entry = TrailEntry::new("role.assign").object("member", user);
        Ok(Trail::record(tx, &entry.after(json!(role))).await?)
    }

    pub async fn revoke_role(
        &self,
        tx: &mut TenantTx,
        user: &str,
        role: &str,
    ) -> Result<(), Rejection> {
        RoleAdmin::new(tx).revoke(user, role).await?;
        let entry = TrailEntry::new("role.revoke").object("member", user);
        Ok(Trail::record(tx, &entry.before(json!(role))).await?)
    }
}

/// What the tables do not take, in words of the practice.
fn refused(error: Error) -> Rejection {
    match error.constraint() {
        Some("a_title_is_short" | "a_client_is_short") => TEXT,
        Some("an_invoice_asks_for_something" | "a_payment_is_something") => AMOUNT,
        Some("an_invoice_belongs_to_a_case") => NO_SUCH_CASE,
        Some("paid_at_most_once") => OVERPAID,
        Some("a_reference_is_short") => REFERENCE,
        Some("one_payment_a_reference") => PAID_ALREADY,
        Some("one_case_a_title") => CASE_EXISTS,
        _ => error.into(),
    }
}

const TEXT: Rejection = Rejection::new(
    422,
    "bad-text",
    "a title and a client have 1 to 200 characters",
);
const AMOUNT: Rejection = Rejection::new(422, "bad-amount", "an amount is at least one cent");
const REFERENCE: Rejection =
    Rejection::new(422, "bad-reference", "a reference has 1 to 100 characters");
const NO_SUCH_CASE: Rejection = Rejection::new(422, "no-such-case", "there is no such case");
const OVERPAID: Rejection = Rejection::new(
    409,
    "overpaid",
    "this is more than the invoice still asks for",
);
const PAID_ALREADY: Rejection = Rejection::new(
    409,
    "paid-already",
    "a payment of this reference is there already",
);
const CASE_EXISTS: Rejection = Rejection::new(
    409,
    "case-exists",
    "this client has a case of this title already",
);
const IN_USE: Rejection = Rejection::new(409, "in-use", "there are invoices for this case");
const NO_SUCH_MEMBER: Rejection = Rejection::new(404, "no-such-member", "there is no such member");
const INTERNAL: Rejection = Rejection::new(500, "internal", "something is wrong on our side");
