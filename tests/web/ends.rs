//! Requests that do not come to an ordinary end.

use axum::body::{Body, Bytes};
use axum::http::Method;
use futures_util::{StreamExt as _, stream};
use sqlx::Executor as _;

use crate::client::A;
use crate::service::{Framework, Stand};
use crate::stage::soon;

pub async fn panic_rolls_back<F: Framework>() {
    let stand = Stand::start::<F>().await;
    for path in ["/panic", "/panic-later"] {
        let bare = stand.post(path, "x").start("of a panic".into()).await;
        assert!(bare.answer().await.is_none(), "{path}: nobody answers");
        stand.serves().await;
        for place in ["x-inner", "x-outer"] {
            let caught = stand.post(path, "of a panic").header(place, "catch 500");
            assert_eq!(caught.send().await.status, 500, "{path} {place}");
            stand.serves().await;
        }
    }
    // A middleware that makes a success of it does not get away with it.
    let caught = stand.post("/panic", "x").header("x-inner", "catch 200");
    assert_eq!(caught.send().await.rejection(), "500 internal");
    stand.logged("ERROR", "after a panic");
    assert!(stand.kept().await.is_empty());
}

pub async fn client_that_hangs_up<F: Framework>() {
    let stand = Stand::start::<F>().await;
    let request = stand.post("/wait", "").start("hung up".into()).await;
    stand.service.stage.reached().await;
    request.hang_up();
    stand.service.stage.left().await;
    stand.serves().await;
    assert!(stand.kept().await.is_empty());
}

/// Somebody else has the only one.
pub async fn client_that_hangs_up_while_it_waits_for_a_connection<F: Framework>() {
    let stand = Stand::start::<F>().await;
    let held = stand.post("/wait", "").start("held".into()).await;
    stand.service.stage.reached().await;
    let waiting = |count| {
        let registry = stand.service.registry.clone();
        soon(async move {
            while registry.status().connections.waiting != count {
                tokio::task::yield_now().await;
            }
        })
    };
    let request = stand.post("/notes", "").start("too late".into()).await;
    waiting(1).await;
    request.hang_up();
    waiting(0).await;
    stand.service.stage.go_on();
    assert_eq!(held.answer().await.expect("an answer").status, 200);
    stand.serves().await;
    assert_eq!(stand.kept().await, ["held"]);
}

/// So that nothing of the handler that is dropped finds its request still open.
pub async fn request_is_over_before_its_handler_is_dropped<F: Framework>() {
    let stand = Stand::start::<F>().await;
    let request = stand
        .post("/ask-when-dropped", "")
        .start(Body::empty())
        .await;
    stand.service.stage.reached().await;
    request.hang_up();
    stand.service.stage.reached().await;
    assert_eq!(stand.service.stage.said(), ["refused"]);
    stand.logged("ERROR", "after the request had been answered");
}

/// The handler has written, and reads on.
pub async fn client_that_hangs_up_while_it_sends<F: Framework>() {
    let stand = Stand::start::<F>().await;
    let first = stream::once(async { Ok::<_, std::io::Error>(Bytes::from("first")) });
    let body = Body::from_stream(first.chain(stream::pending()));
    let request = stand.post("/upload", "").start(body).await;
    stand.service.stage.reached().await;
    request.hang_up();
    stand.serves().await;
    assert!(stand.kept().await.is_empty());
}

pub async fn time_out_around_and_inside<F: Framework>() {
    let stand = Stand::start::<F>().await;
    for place in ["x-inner", "x-outer"] {
        let slow = stand.post("/wait", "").header(place, "time-out 504");
        let request = slow.start("too slow".into()).await;
        stand.service.stage.reached().await;
        stand.service.stage.expire();
        assert_eq!(
            request.answer().await.expect("an answer").status,
            504,
            "{place}"
        );
        stand.service.stage.left().await;
        stand.serves().await;
        assert!(stand.kept().await.is_empty(), "{place}");
    }
}

/// The handler is dropped while it commits. Whatever the time-out says, nobody can tell.
pub async fn time_out_inside_an_explicit_commit<F: Framework>() {
    let stand = Stand::start::<F>().await;
    for status in ["504", "200"] {
        let mut holder = stand.world.admin().await;
        lock(&mut holder).await;
        let slow = stand
            .post("/commit", "")
            .header("x-inner", &format!("time-out {status}"));
        let request = slow.start("at commit: wait".into()).await;
        stand.blocked(1).await;
        stand.service.stage.expire();
        let answer = request.answer().await.expect("an answer");
        assert_eq!(answer.rejection(), "500 outcome-unknown", "{status}");
        stand.logged("WARN", "while its transaction was being committed");
        unlock(&mut holder).await;
        stand.serves().await;
    }
}

/// Nobody is there to be told, but the log is.
pub async fn client_that_hangs_up_while_the_server_commits<F: Framework>() {
    let stand = Stand::start::<F>().await;
    let mut holder = stand.world.admin().await;
    lock(&mut holder).await;
    let before = dropped_commits(&stand);
    let request = stand
        .post("/notes", "")
        .start("at commit: wait".into())
        .await;
    stand.blocked(1).await;
    request.hang_up();
    let told = async {
        while dropped_commits(&stand) == before {
            tokio::task::yield_now().await;
        }
    };
    soon(told).await;
    unlock(&mut holder).await;
    stand.serves().await;
}

pub async fn transaction_is_begun_again_after_a_beginning_that_was_dropped<F: Framework>() {
    let stand = Stand::start::<F>().await;
    let write = stand
        .post("/notes", "begun again")
        .header("x-inner", "give-up-first");
    assert_eq!(write.send().await.status, 201);
    assert_eq!(stand.kept().await, ["begun again"]);
    stand.serves().await;
}

/// Over a slow wire, so that each await is a poll of its own. What was kept of a request that was
/// dropped was being committed, and the log says so.
pub async fn request_dropped_at_each_poll<F: Framework>() {
    let stand = Stand::over_a_slow_wire::<F>().await;
    let tenant = format!("dropped-{}", F::NAME);
    let told = |stand: &Stand| {
        let (tenant, words) = (format!("tenant={tenant}"), "was being committed");
        let lines = stand.log.lines();
        let is_it = |line: &&String| line.contains(&tenant) && line.contains(words);
        lines.iter().filter(is_it).count()
    };
    for polls in 1.. {
        let note = format!("dropped after {polls}");
        let before = told(&stand);
        let service = stand.service.clone();
        let status = F::post_note(service, tenant.clone(), note.clone(), polls).await;
        stand.serves().await;
        let kept = stand.kept().await.contains(&note);
        if status.is_some() {
            assert_eq!((status, kept), (Some(201), true));
            // At least BEGIN, INSERT and COMMIT were waited for.
            assert!(polls > 3, "{polls}");
            return;
        }
        assert!(!kept || told(&stand) > before, "{note}");
    }
}

/// The log is that of all tests.
fn dropped_commits(stand: &Stand) -> usize {
    let lines = stand.log.lines();
    let is_it = |line: &&String| line.contains("while its transaction was being committed");
    lines.iter().filter(is_it).count()
}

async fn lock(holder: &mut sqlx::PgConnection) {
    holder
        .execute("SELECT pg_advisory_lock(4711)")
        .await
        .expect("locked");
}

async fn unlock(holder: &mut sqlx::PgConnection) {
    holder
        .execute("SELECT pg_advisory_unlock(4711)")
        .await
        .expect("unlocked");
}

/// Why the docs tell users of actix to set `h1_allow_half_closed(false)`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn specimen_actix_by_itself_commits_for_a_client_that_is_gone() {
    let stand = Stand::start_with::<crate::in_actix::Actix>(|mut service| {
        service.half_closed_is_gone = false;
        service
    })
    .await;
    let request = stand.post("/wait", "").start("nobody asked".into()).await;
    stand.service.stage.reached().await;
    request.hang_up();
    // The one thread that serves has seen it when it answers somebody else.
    let options = stand.ask(Method::OPTIONS, "/notes").header("x-tenant", A);
    assert_eq!(options.send().await.status, 204);
    stand.service.stage.go_on();
    stand.service.stage.left().await;
    stand.serves().await;
    assert_eq!(stand.kept().await, ["nobody asked"]);
}
