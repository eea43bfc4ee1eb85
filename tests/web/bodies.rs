//! Answers without a body, and bodies that come bit by bit.

use axum::body::{Body, Bytes};
use axum::http::Method;
use futures_util::stream;

use crate::client::A;
use crate::service::{Framework, Stand};

pub async fn head_and_options<F: Framework>() {
    let stand = Stand::start::<F>().await;
    let get = stand.get("/notes").send().await;
    let head = stand.ask(Method::HEAD, "/notes").header("x-tenant", A);
    let head = head.send().await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    for name in ["content-type", "content-length"] {
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
    let refused = stand.get("/notes").header("x-tenant", A).send().await;
    let head = stand.ask(Method::HEAD, "/notes").header("x-tenant", A);
    let head = head.header("x-tenant", A).send().await;
    assert_eq!((head.status, head.body.as_str()), (400, ""));
    for name in ["content-type", "cache-control"] {
        assert_eq!(head.header(name), refused.header(name), "{name}");
    }
    let options = stand.ask(Method::OPTIONS, "/notes");
    assert_eq!(options.clone().send().await.rejection(), "400 no-tenant");
    let options = options.header("x-tenant", A).send().await;
    assert_eq!(options.status, 204);
    assert_eq!(options.header("allow"), Some("GET, POST"));
}

/// What it streams can see what the transaction wrote, over the only connection.
pub async fn body_is_streamed_after_the_commit<F: Framework>() {
    let stand = Stand::start::<F>().await;
    let answer = stand.post("/stream", "kept").send().await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, r#"["a note of acme-7141", "kept"]"#);
    let answer = stand.post("/stream", "at commit: 23505").send().await;
    assert_eq!(answer.rejection(), "409 conflict");
}

pub async fn transaction_in_a_body_is_no_success<F: Framework>() {
    let stand = Stand::start::<F>().await;
    let answer = stand.post("/stream-tx", "not kept").send().await;
    assert_eq!(answer.rejection(), "500 internal");
    stand.logged("ERROR", "somebody still holds the tenantry::web::Tx");
    assert!(stand.kept().await.is_empty());
    stand.serves().await;
}

pub async fn body_of_a_request_is_read_in_the_transaction<F: Framework>() {
    let stand = Stand::start::<F>().await;
    let chunks = ["one", "two", "three"].map(|chunk| Ok::<_, std::io::Error>(Bytes::from(chunk)));
    let body = Body::from_stream(stream::iter(chunks));
    let request = stand.post("/upload", "").start(body).await;
    assert_eq!(request.answer().await.expect("an answer").status, 201);
    let kept = stand.kept().await;
    assert_eq!(kept.concat().len(), "uploadedonetwothree".len(), "{kept:?}");
    let bad = Body::from(vec![0xff]);
    let request = stand.post("/upload", "").start(bad).await;
    assert_eq!(request.answer().await.expect("an answer").status, 400);
    assert_eq!(stand.kept().await, kept);
}
