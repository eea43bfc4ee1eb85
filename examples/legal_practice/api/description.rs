//! What the API is, for those who call it: an OpenAPI document, the same for both frameworks.
//!
//! The functions are there for their attributes. A test asks both frameworks for each route.

#![allow(dead_code, reason = "the document is made of what stands above them")]

use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi, ToSchema};

use super::{CaseChange, SignIn, SignedIn};
use crate::cases::{Case, NewCase};
use crate::invoices::{Invoice, NewInvoice};
use crate::members::Member;
use crate::payments::{Balance, NewPayment, Payment};
use crate::record::{Entry, Verification};

pub fn document() -> Document {
    Description::openapi()
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Legal practice", description = "Cases, invoices and payments of an organisation"),
    paths(
        sign_in,
        list_cases,
        open_case,
        show_case,
        change_case,
        remove_case,
        list_invoices,
        issue_invoice,
        show_invoice,
        receive_payment,
        list_accounts,
        list_trail,
        verify_trail,
        list_members,
        remove_member,
        assign_role,
        revoke_role,
    ),
    modifiers(&Tokens)
)]
struct Description;

struct Tokens;

impl Modify for Tokens {
    fn modify(&self, document: &mut Document) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", scheme);
    }
}

/// What every refusal looks like.
#[derive(ToSchema)]
struct Problem {
    /// `/problems/` and a name.
    r#type: String,
    title: String,
    status: u16,
}

#[derive(ToSchema)]
struct CasePage {
    items: Vec<Case>,
    /// For `after`; null at the end.
    next: Option<String>,
}

#[derive(ToSchema)]
struct InvoicePage {
    items: Vec<Invoice>,
    /// For `after`; null at the end.
    next: Option<String>,
}

/// A token for a user of an organisation.
#[utoipa::path(
    post,
    path = "/sign-in",
    request_body = SignIn,
    responses((status = 200, description = "done", body = SignedIn), (status = "4XX", description = "refused", body = Problem, content_type = "application/problem+json")),
)]
fn sign_in() {}

/// The cases, by title, a page at a time (`cases:view`).
#[utoipa::path(
    get,
    path = "/cases",
    params(("limit" = Option<u32>, Query), ("after" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, description = "done", body = CasePage), (status = "4XX", description = "refused", body = Problem, content_type = "application/problem+json")),
    security(("token" = []))
)]
fn list_cases() {}

/// Opens a case (`cases:create`).
#[utoipa::path(
    post,
    path = "/cases",
    request_body = NewCase,
    responses((status = 201, description = "done", body = Case), (status = "4XX", description = "refused", body = Problem, content_type = "application/problem+json")),
    security(("token" = []))
)]
fn open_case() {}

/// A case (`cases:view`).
#[utoipa::path(
    get,
    path = "/cases/{id}",
    params(("id" = Uuid, Path)),
    responses((status = 200, description = "done", body = Case), (status = "4XX", description = "refused", body = Problem, content_type = "application/problem+json")),
    security(("token" = []))
)]
fn show_case() {}

/// Changes a case that was read (`cases:edit`).
#[utoipa::path(
    put,
    path = "/cases/{id}",
    params(("id" = Uuid, Path)),
    request_body = CaseChange,
    responses((status = 200, description = "done", body = Case), (status = "4XX", description = "refused", body = Problem, content_type = "application/problem+json")),
    security(("token" = []))
)]
fn change_case() {}

/// Removes a case that was read (`cases:delete`).
#[utoipa::path(
    delete,
    path = "/cases/{id}",
    params(("id" = Uuid, Path), ("version" = i64, Query)),
    responses((status = 200, description = "done"), (status = "4XX", description = "refused", body = Problem, content_type = "application/problem+json")),
    security(("token" = []))
)]
fn remove_case() {}

/// The invoices, by number, a page at a time (`invoices:view`).
#[utoipa::path(
    get,
    path = "/invoices",
    params(("limit" = Option<u32>, Query), ("after" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, description = "done", body = InvoicePage), (status = "4XX", description = "refused", body = Problem, content_type = "application/problem+json")),
    security(("token" = []))
)]
fn list_invoices() {}

/// Issues an invoice under the next number, and books it (`invoices:create`).
#[utoipa::path(
    post,
    path = "/invoices",
    request_body = NewInvoice,
    responses((status = 201, description = "done", body = Invoice), (status = "4XX", description = "refused", body = Problem, content_type = "application/problem+json")),
    security(("token" = []))
)]
fn issue_invoice() {}

/// An invoice (`invoices:view`).
#[utoipa::path(
    get,
    path = "/invoices/{id}",
    params(("id" = Uuid, Path)),
    responses((status = 200, description = "done", body = Invoice), (status = "4XX", description = "refused", body = Problem, content_type = "application/problem+json")),
    security(("token" = []))
)]
fn show_invoice() {}

/// Receives a payment for an invoice, and books it (`payments:create`).
#[utoipa::path(
    post,
    path = "/invoices/{id}/payments",
    params(("id" = Uuid, Path)),
    request_body = NewPayment,
    responses((status = 201, description = "done", body = Payment), (status = "4XX", description = "refused", body = Problem, content_type = "application/problem+json")),
    security(("token" = []))
)]
fn receive_payment() {}

/// What the accounts hold (`accounts:view`).
#[utoipa::path(
    get,
    path = "/accounts",
    responses((status = 200, description = "done", body = Vec<Balance>), (status = "4XX", description = "refused", body = Problem, content_type = "application/problem+json")),
    security(("token" = []))
)]
fn list_accounts() {}

/// Who did what, the newest first (`trail:view`).
#[utoipa::path(
    get,
    path = "/trail",
    params(("than" = Option<i64>, Query, description = "older than the entry of this number"), ("limit" = Option<u32>, Query)),
    responses((status = 200, description = "done", body = Vec<Entry>), (status = "4XX", description = "refused", body = Problem, content_type = "application/problem+json")),
    security(("token" = []))
)]
fn list_trail() {}

/// Whether the audit log is whole (`trail:view`).
#[utoipa::path(
    get,
    path = "/trail/verification",
    responses((status = 200, description = "done", body = Verification), (status = "4XX", description = "refused", body = Problem, content_type = "application/problem+json")),
    security(("token" = []))
)]
fn verify_trail() {}

/// The members and their roles (`members:view`).
#[utoipa::path(
    get,
    path = "/members",
    responses((status = 200, description = "done", body = Vec<Member>), (status = "4XX", description = "refused", body = Problem, content_type = "application/problem+json")),
    security(("token" = []))
)]
fn list_members() {}

/// Removes a member (`members:edit`).
#[utoipa::path(
    delete,
    path = "/members/{user}",
    params(("user" = String, Path)),
    responses((status = 200, description = "done"), (status = "4XX", description = "refused", body = Problem, content_type = "application/problem+json")),
    security(("token" = []))
)]
fn remove_member() {}

/// Gives a user a role, who becomes a member by it (`members:edit`).
#[utoipa::path(
    put,
    path = "/members/{user}/roles/{role}",
    params(("user" = String, Path), ("role" = String, Path)),
    responses((status = 200, description = "done"), (status = "4XX", description = "refused", body = Problem, content_type = "application/problem+json")),
    security(("token" = []))
)]
fn assign_role() {}

/// Takes a role from a member (`members:edit`).
#[utoipa::path(
    delete,
    path = "/members/{user}/roles/{role}",
    params(("user" = String, Path), ("role" = String, Path)),
    responses((status = 200, description = "done"), (status = "4XX", description = "refused", body = Problem, content_type = "application/problem+json")),
    security(("token" = []))
)]
fn revoke_role() {}
