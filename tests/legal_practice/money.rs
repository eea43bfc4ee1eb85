//! What is booked.

use serde_json::json;
use sqlx::Executor as _;
use tenantry::{CommitError, TenantContext, TenantId, TenantScope};

use crate::invoices::Invoice;
use crate::payments::Balance;
use crate::record::{Entry, Verification};
use crate::world::{User, World, assert_refused};

pub async fn payments_are_booked_with_their_invoice(world: &World) {
    let mut partner = world.user("partner", "axo").await;
    let invoice = issue(&mut partner, 1_000).await;
    let path = format!("/invoices/{}/payments", invoice.id);
    let pay = |amount: i64, reference: &str| json!({"amount": amount, "reference": reference});
    assert_eq!(partner.post(&path, &pay(300, "a")).await.status, 201);
    let twice = partner.post(&path, &pay(300, "a")).await;
    assert_refused(&twice, 409, "paid-already");
    assert_refused(&partner.post(&path, &pay(701, "b")).await, 409, "overpaid");
    assert_refused(&partner.post(&path, &pay(0, "c")).await, 422, "bad-amount");
    assert_eq!(partner.post(&path, &pay(700, "d")).await.status, 201);
    let path = format!("/invoices/{}", invoice.id);
    let paid: Invoice = partner.get(&path).await.json().expect("an invoice");
    assert_eq!(paid.paid, 1_000);
    assert_eq!(
        balances(&mut partner).await,
        [
            ("bank".to_owned(), 1_000),
            ("fees".to_owned(), -1_000),
            ("receivables".to_owned(), 0)
        ]
    );
    // Of a refused payment nothing is left, in the log neither.
    let actions: Vec<String> = trail(&mut partner)
        .await
        .into_iter()
        .map(|e| e.action)
        .collect();
    assert_eq!(
        actions,
        [
            "payment.receive",
            "payment.receive",
            "invoice.issue",
            "case.open"
        ]
    );

    let mut other = world.user("partner", "bruma").await;
    assert_eq!(balances(&mut other).await, []);
    let stolen = other
        .post(&format!("/invoices/{}/payments", invoice.id), &pay(1, "e"))
        .await;
    assert_refused(&stolen, 404, "not-found");
}

pub async fn the_journal_balances_and_stays(world: &World) {
    let mut partner = world.user("partner", "axo").await;
    let invoice = issue(&mut partner, 500).await;
    let scope = scope(world).await;

    // What does not add up is refused at COMMIT, when all of it is there.
    let entry = "INSERT INTO journal_entries (id, what) VALUES (gen_random_uuid(), 'payment') \
                 RETURNING id";
    for amounts in [&[5, -4][..], &[5][..], &[][..]] {
        let mut tx = scope.begin().await.expect("begun");
        let id: uuid::Uuid = sqlx::query_scalar(entry)
            .fetch_one(&mut tx)
            .await
            .expect("an entry");
        for amount in amounts {
            sqlx::query("INSERT INTO postings (entry_id, account, amount) VALUES ($1, 'bank', $2)")
                .bind(id)
                .bind(amount)
                .execute(&mut tx)
                .await
                .expect("a posting");
        }
        match tx.commit().await.expect_err("it does not add up") {
            CommitError::RolledBack(error) => {
                assert_eq!(error.constraint(), Some("an_entry_balances"), "{amounts:?}");
            }
            other => panic!("{other:?}"),
        }
    }
    // Nothing is added to what was booked before, even if it would still add up.
    let late = "INSERT INTO postings (entry_id, account, amount) \
                VALUES ($1, 'bank', 1), ($1, 'fees', -1)";
    let refused = sqlx::query(late).bind(invoice.id).execute(&scope).await;
    let error = tenantry::Error::from(refused.expect_err("too late"));
    assert_eq!(error.constraint(), Some("an_entry_is_closed"));
    // Nor is anything changed: by the role of the service ..
    for change in [
        "UPDATE postings SET amount = amount * 2",
        "DELETE FROM postings",
        "UPDATE journal_entries SET what = 'payment'",
        "DELETE FROM journal_entries",
        "UPDATE invoices SET number = 'INV-AXO-99999'",
        "DELETE FROM invoices",
        "UPDATE payments SET amount = 1",
    ] {
        let refused = sqlx::query(change).execute(&scope).await;
        let error = tenantry::Error::from(refused.expect_err(change));
        assert_eq!(error.code().as_deref(), Some("42501"), "{change}");
    }
    // .. or by the owner of the tables.
    let mut owner = world.owner().await;
    for change in [
        "UPDATE postings SET amount = amount * 2",
        "DELETE FROM journal_entries",
        "TRUNCATE postings",
    ] {
        let error = owner.execute(change).await.expect_err(change);
        let sqlx::Error::Database(error) = error else {
            panic!("{error:?}")
        };
        assert_eq!(
            error.constraint(),
            Some("the_journal_is_for_ever"),
            "{change}"
        );
    }
}

pub async fn the_audit_log_is_whole_and_notices_when_it_is_not(world: &World) {
    let mut partner = world.user("partner", "axo").await;
    let mut other = world.user("partner", "bruma").await;
    issue(&mut partner, 100).await;
    issue(&mut partner, 200).await;
    issue(&mut other, 300).await;
    let entries = trail(&mut partner).await;
    assert_eq!(entries.len(), 4);
    assert!(
        entries
            .iter()
            .all(|entry| entry.actor.as_deref() == Some("partner"))
    );
    assert!(verify(&mut partner).await.sound);

    let mut owner = world.owner().await;
    owner
        .execute("DELETE FROM tenantry.trail WHERE tenant = 'axo' AND number = 3")
        .await
        .expect("the owner may");
    let report = verify(&mut partner).await;
    assert_eq!((report.sound, report.broken_at), (false, Some(3)));
    assert!(
        verify(&mut other).await.sound,
        "that of another is not touched"
    );
}

async fn issue(user: &mut User, amount: i64) -> Invoice {
    let case = crate::routes::open_case(user, &format!("Worth {amount}")).await;
    let draft = json!({"case_id": case.id, "amount": amount});
    let answer = user.post("/invoices", &draft).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json().expect("an invoice")
}

async fn balances(user: &mut User) -> Vec<(String, i64)> {
    let balances: Vec<Balance> = user.get("/accounts").await.json().expect("balances");
    let balances = balances.into_iter().map(|b| (b.account, b.balance));
    balances.collect()
}

async fn trail(user: &mut User) -> Vec<Entry> {
    user.get("/trail").await.json().expect("entries")
}

async fn verify(user: &mut User) -> Verification {
    user.get("/trail/verification")
        .await
        .json()
        .expect("a report")
}

async fn scope(world: &World) -> TenantScope {
    let tenant: TenantId = "axo".parse().expect("a tenant");
    let context = TenantContext::new(tenant).user("partner");
    world
        .practice
        .registry
        .scope(context)
        .await
        .expect("a scope")
}
