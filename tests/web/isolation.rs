//! Two tenants, one connection.

use axum::http::Method;
use tokio::task::JoinSet;

use crate::client::{A, B};
use crate::service::{Framework, Stand};

pub async fn tenants_share_one_connection_and_nothing_else<F: Framework>() {
    let stand = Stand::start::<F>().await;
    let mut tasks = JoinSet::new();
    for number in 0..40 {
        let (own, note) = match number % 2 {
            0 => (A, format!("{A} wrote {number}")),
            _ => (B, format!("{B} wrote {number}")),
        };
        let ask = |method, path| stand.ask(method, path).header("x-tenant", own);
        let status = match number % 3 {
            0 => "409",
            _ => "201",
        };
        let write = ask(Method::POST, "/notes")
            .body(&note)
            .header("x-answer", status);
        let reads = [ask(Method::GET, "/notes"), ask(Method::GET, "/notes-in-tx")];
        tasks.spawn(async move {
            assert_eq!(write.send().await.status.to_string(), status);
            for read in reads {
                let notes = read.send().await.notes();
                assert!(notes.iter().all(|note| note.contains(own)), "{notes:?}");
                assert_eq!(notes.contains(&note), status == "201", "{notes:?}");
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.expect("no panic");
    }
    assert_eq!(stand.kept().await.len(), 26);
    stand.serves().await;
}

/// The layers alone ask the database nothing.
pub async fn request_that_does_not_ask_takes_no_connection<F: Framework>() {
    let stand = Stand::start::<F>().await;
    let options = stand.ask(Method::OPTIONS, "/notes").header("x-tenant", A);
    assert_eq!(options.send().await.status, 204);
    assert_eq!(stand.world.sessions().await, 0);
    // Nor does a request that is waited for by somebody else's.
    let held = stand.post("/wait", "held").start("held".into()).await;
    stand.service.stage.reached().await;
    let options = stand.ask(Method::OPTIONS, "/notes").header("x-tenant", B);
    assert_eq!(options.send().await.status, 204);
    stand.service.stage.go_on();
    assert_eq!(held.answer().await.expect("an answer").status, 200);
    assert_eq!(stand.kept().await, ["held"]);
}
