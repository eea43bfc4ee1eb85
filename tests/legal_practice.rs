//! The second field report, as a regression test: organisations in one database, the active one in
//! the token, permissions and invoice numbers under load. Everything is asked of both frameworks
//! over real HTTP, and `examples/legal_practice` answers.
//!
//! With `TENANTRY_LONG=1` 20,000 invoices are saved in each framework instead of 1,000.
//! `--nocapture` shows the counts.

#![allow(
    unreachable_pub,
    dead_code,
    reason = "modules of the example, which the example uses otherwise"
)]

// The example itself, not a copy of it.
#[path = "../examples/legal_practice/api/mod.rs"]
mod api;
#[path = "../examples/legal_practice/app.rs"]
mod app;
#[path = "../examples/legal_practice/cases.rs"]
mod cases;
#[path = "../examples/legal_practice/database.rs"]
mod database;
#[path = "../examples/legal_practice/invoices.rs"]
mod invoices;
#[path = "../examples/legal_practice/members.rs"]
mod members;
#[path = "../examples/legal_practice/options.rs"]
mod options;
#[path = "../examples/legal_practice/payments.rs"]
mod payments;
#[path = "../examples/legal_practice/practice.rs"]
mod practice;
#[path = "../examples/legal_practice/record.rs"]
mod record;
#[path = "../examples/legal_practice/redis.rs"]
mod redis;
#[path = "../examples/legal_practice/tokens.rs"]
mod tokens;

#[path = "warehouse/client.rs"]
mod client;
#[path = "legal_practice/load.rs"]
mod load;
#[path = "legal_practice/money.rs"]
mod money;
#[path = "legal_practice/numbers.rs"]
mod numbers;
#[path = "legal_practice/routes.rs"]
mod routes;
#[path = "legal_practice/who.rs"]
mod who;
#[path = "legal_practice/world.rs"]
mod world;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Each of these is asked of both frameworks.
macro_rules! in_both_frameworks {
    ($($module:ident: $($name:ident)*;)*) => {
        mod actix {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    crate::$module::$name(&crate::world::World::start(crate::options::Framework::Actix).await).await;
                }
            )*)*
        }
        mod axum {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    crate::$module::$name(&crate::world::World::start(crate::options::Framework::Axum).await).await;
                }
            )*)*
        }
    };
}

/// What the example installs, as its owner sees it.
#[cfg(feature = "audit")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_passes_the_audit() {
    use tenantry::audit::{AuditConfig, Auditor, Severity};

    let world = world::World::start(options::Framework::Axum).await;
    let pool = sqlx::PgPool::connect_with(world.database.owner.clone()).await;
    let role = world.database.service.get_username();
    let auditor = Auditor::new(AuditConfig::new(role));
    let report = auditor.run(&pool.expect("connected")).await;
    let report = report.expect("audited");
    println!("{report}");
    assert!(!report.has(Severity::Low), "{report}");
    assert_eq!(report.unseen().count(), 0, "{report}");
}

in_both_frameworks! {
    routes: what_is_described_is_served
        cases_are_paged_and_keep_to_their_organisation
        a_stale_version_is_refused
        bad_requests_are_refused_in_our_words;
    who: a_token_is_needed
        a_bad_token_is_refused_before_anything_is_asked
        roles_decide_what_a_user_may
        a_revoked_role_is_gone_within_the_bound
        a_member_who_left_is_out;
    money: payments_are_booked_with_their_invoice
        the_journal_balances_and_stays
        the_audit_log_is_whole_and_notices_when_it_is_not;
    numbers: invoices_are_numbered_without_a_gap;
}
