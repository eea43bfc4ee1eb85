//! The transaction of a request, from its first use to the answer.

use tenantry::TxOptions;

use crate::client::B;
use crate::service::{Framework, Stand};

pub async fn success_is_committed_and_an_error_status_rolled_back<F: Framework>() {
    let stand = Stand::start::<F>().await;
    for status in [
        "200", "201", "204", "301", "304", "400", "404", "409", "422", "500", "503",
    ] {
        let note = format!("answered {status}");
        let write = stand.post("/notes", &note).header("x-answer", status);
        assert_eq!(write.send().await.status.to_string(), status);
        let expected = status < "400";
        assert_eq!(stand.kept().await.contains(&note), expected, "{status}");
    }
    stand.serves().await;
}

/// The handler has answered 201 each time.
pub async fn commit_that_fails_replaces_the_answer<F: Framework>() {
    let stand = Stand::start::<F>().await;
    for (code, expected) in [
        ("23505", "409 conflict"),
        ("23514", "409 conflict"),
        ("40001", "503 contended after 1"),
        ("P0001", "500 internal"),
    ] {
        let write = stand.post("/notes", &format!("at commit: {code}"));
        assert_eq!(write.send().await.rejection(), expected, "{code}");
    }
    assert!(stand.kept().await.is_empty());
    stand.serves().await;
}

pub async fn outcome_that_is_unknown_is_told_as_such<F: Framework>() {
    let stand = Stand::start::<F>().await;
    for path in ["/notes", "/commit"] {
        let write = stand.post(path, "at commit: leave");
        assert_eq!(write.send().await.rejection(), "500 outcome-unknown");
    }
    stand.serves().await;
}

pub async fn explicit_end_is_told_to_the_handler<F: Framework>() {
    let stand = Stand::start::<F>().await;
    // Committed, whatever is answered then.
    let write = stand
        .post("/commit", "committed, then 500")
        .header("x-answer", "500");
    assert_eq!(write.send().await.status, 500);
    let write = stand.post("/commit", "at commit: 23505").send().await;
    assert_eq!(write.rejection(), "409 conflict");
    // It knows, and answers as it likes.
    let write = stand
        .post("/commit-ignored", "at commit: 23505")
        .send()
        .await;
    assert_eq!(write.status, 202);
    let write = stand
        .post("/rollback", "rolled back, then 200")
        .send()
        .await;
    assert_eq!(write.status, 200);
    let write = stand
        .post("/again", "committed, then asked for again")
        .send()
        .await;
    assert_eq!(write.rejection(), "500 internal");
    stand.logged("ERROR", "asked for after it had ended");
    assert_eq!(
        stand.kept().await,
        ["committed, then 500", "committed, then asked for again"]
    );
    stand.serves().await;
}

/// A middleware and a handler, with one layer or two of them around.
pub async fn one_transaction_for_all_who_ask_in_turn<F: Framework>() {
    let stand = Stand::start::<F>().await;
    for path in ["/notes", "/nested/notes"] {
        let write = stand.post(path, path).header("x-inner", "audit");
        let refused = write.clone().header("x-answer", "409");
        assert_eq!(refused.send().await.status, 409, "{path}");
        assert!(stand.kept().await.is_empty(), "{path}");
        assert_eq!(write.send().await.status, 201, "{path}");
        assert_eq!(stand.kept().await, [path, "audit"], "{path}");
        let mut admin = stand.world.admin().await;
        let transactions: i64 = sqlx::query_scalar(
            "SELECT count(DISTINCT xmin::text) FROM notes WHERE body NOT LIKE 'a note of %'",
        )
        .fetch_one(&mut admin)
        .await
        .expect("a count");
        assert_eq!(transactions, 1, "{path}");
        sqlx::query("DELETE FROM notes WHERE body NOT LIKE 'a note of %'")
            .execute(&mut admin)
            .await
            .expect("deleted");
    }
}

pub async fn held_twice_is_refused<F: Framework>() {
    let stand = Stand::start::<F>().await;
    let around = stand.post("/notes", "x").header("x-inner", "audit-around");
    assert_eq!(around.send().await.rejection(), "500 internal");
    assert_eq!(
        stand.post("/two", "").send().await.rejection(),
        "500 internal"
    );
    stand.logged("ERROR", "two hold the tenantry::web::Tx of a request");
    assert!(stand.kept().await.is_empty());
    stand.serves().await;
}

pub async fn another_context_is_refused<F: Framework>() {
    let stand = Stand::start::<F>().await;
    let write = stand
        .post("/inner/notes", "of another")
        .header("x-inner-tenant", B);
    assert_eq!(write.clone().send().await.status, 201);
    let write = write.header("x-inner", "audit");
    assert_eq!(write.send().await.rejection(), "500 internal");
    stand.logged(
        "ERROR",
        "given another context after its transaction had been begun",
    );
    assert_eq!(stand.kept().await, ["of another"]);
    let mut admin = stand.world.admin().await;
    let owner: String = sqlx::query_scalar("SELECT tenant_id FROM notes WHERE body = 'of another'")
        .fetch_one(&mut admin)
        .await
        .expect("a row");
    assert_eq!(owner, B);
}

pub async fn lazy_transaction_takes_no_connection_before_it_is_begun<F: Framework>() {
    let stand = Stand::start::<F>().await;
    let request = stand.post("/lazy", "").start("lazily".into()).await;
    // All of its arguments are there, its body too.
    stand.service.stage.reached().await;
    assert_eq!(stand.world.sessions().await, 0);
    stand.service.stage.go_on();
    assert_eq!(request.answer().await.expect("an answer").status, 201);
    assert_eq!(stand.kept().await, ["and another", "lazily"]);
    let request = stand
        .post("/lazy", "")
        .start("at commit: 23505".into())
        .await;
    stand.service.stage.go_on();
    let answer = request.answer().await.expect("an answer");
    assert_eq!(answer.rejection(), "409 conflict");
    assert_eq!(stand.kept().await.len(), 2);
    stand.serves().await;
}

pub async fn options_begin_the_transaction<F: Framework>() {
    let stand = Stand::start_with::<F>(|mut service| {
        let options = TxOptions::default().serializable();
        service.transactions = service.transactions.options(options);
        service
    })
    .await;
    let answer = stand.get("/isolation").send().await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "serializable"));
}

/// A task has kept the transaction: the client is told 500, and it stays with that.
pub async fn commit_after_the_answer_is_refused<F: Framework>() {
    let stand = Stand::start::<F>().await;
    let stage = &stand.service.stage;
    let answer = stand.post("/detach", "detached").send().await;
    assert_eq!(answer.rejection(), "500 internal");
    stage.reached().await;
    stage.go_on();
    stage.left().await;
    stage.reached().await;
    assert_eq!(stage.said(), ["Err(TransactionAborted)"]);
    stand.serves().await;
    assert!(stand.kept().await.is_empty());
}

/// As after an answer: the request is over.
pub async fn commit_after_the_client_has_gone_is_refused<F: Framework>() {
    let stand = Stand::start::<F>().await;
    let stage = &stand.service.stage;
    let request = stand
        .post("/detach-and-wait", "")
        .start("detached".into())
        .await;
    stage.reached().await;
    stage.reached().await;
    request.hang_up();
    stage.left().await;
    stage.go_on();
    stage.left().await;
    stage.reached().await;
    assert_eq!(stage.said(), ["Err(TransactionAborted)"]);
    stand.serves().await;
    assert!(stand.kept().await.is_empty());
}
