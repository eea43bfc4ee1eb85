//! The routes, asked one after the other.

use axum::body::Body;
use axum::http::Method;
use serde_json::{Value, json};

use crate::api::CaseChange;
use crate::cases::{Case, NewCase};
use crate::world::{User, World, assert_refused};

/// Each route and method of the description, and no other method of its path.
pub async fn what_is_described_is_served(world: &World) {
    let partner = world.user("partner", "axo").await;
    let answer = world.anybody(None).get("/openapi.json").await;
    assert_eq!(answer.status, 200);
    let document: Value = answer.json().expect("a document");
    let paths = document["paths"].as_object().expect("paths");
    assert_eq!(paths.len(), 12);
    for (path, operations) in paths {
        let asked = path
            .replace("{id}", "00000000-0000-0000-0000-000000000000")
            .replace("{user}", "nobody")
            .replace("{role}", "nothing");
        for method in [
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::DELETE,
            Method::PATCH,
        ] {
            let described = &operations[method.as_str().to_ascii_lowercase()];
            // Anew each time: who does not read a body closes the connection.
            let answer = world
                .anybody(partner.token.clone())
                .send(method.clone(), &asked, Body::from("not JSON"))
                .await;
            let problem = answer.problem();
            if described.is_null() {
                assert_refused(&answer, 405, "bad-method");
            } else {
                let unrouted = [Some("bad-method"), Some("no-such-path")];
                assert!(
                    !unrouted.contains(&problem.as_deref()),
                    "{method} {path}: {answer:?}"
                );
                assert!(answer.status.as_u16() < 500, "{method} {path}: {answer:?}");
            }
            if !described["security"].is_null() {
                let answer = world
                    .anybody(None)
                    .send(method, &asked, Body::from("not JSON"))
                    .await;
                assert_refused(&answer, 401, "token-absent");
            }
        }
    }
}

pub async fn cases_are_paged_and_keep_to_their_organisation(world: &World) {
    let mut axo = world.user("partner", "axo").await;
    let mut bruma = world.user("partner", "bruma").await;
    let mut ids = Vec::new();
    for number in 0..7 {
        ids.push(open_case(&mut axo, &format!("Axo {number}")).await.id);
        open_case(&mut bruma, &format!("Bruma {number}")).await;
    }
    let mut titles = Vec::new();
    let mut path = "/cases?limit=3".to_owned();
    let mut cursors = Vec::new();
    loop {
        let page = cases(&mut axo, &path).await;
        titles.extend(page.0.iter().map(|case| case.title.clone()));
        // What comes in between, in front and behind, neither moves nor hides a case.
        if titles.len() == 3 {
            open_case(&mut axo, "Axo 0, part two").await;
            open_case(&mut axo, "Axo 5, part two").await;
        }
        let Some(next) = page.1 else { break };
        path = format!("/cases?limit=3&after={next}");
        cursors.push(next);
    }
    let expected = [
        "Axo 0",
        "Axo 1",
        "Axo 2",
        "Axo 3",
        "Axo 4",
        "Axo 5",
        "Axo 5, part two",
        "Axo 6",
    ];
    assert_eq!(titles, expected);

    let stolen = format!("/cases?limit=3&after={}", cursors[0]);
    assert_refused(&bruma.get(&stolen).await, 400, "invalid-cursor");
    let elsewhere = format!("/invoices?limit=3&after={}", cursors[0]);
    assert_refused(&axo.get(&elsewhere).await, 400, "invalid-cursor");
    for id in ids {
        let path = format!("/cases/{id}");
        assert_refused(&bruma.get(&path).await, 404, "not-found");
        let change = CaseChange {
            title: "Taken".to_owned(),
            client: "Over".to_owned(),
            closed: true,
            version: 1,
        };
        assert_refused(&bruma.put(&path, &change).await, 404, "not-found");
        let path = format!("{path}?version=1");
        assert_refused(&bruma.delete(&path).await, 404, "not-found");
        assert_eq!(axo.delete(&path).await.status, 200);
    }
}

pub async fn a_stale_version_is_refused(world: &World) {
    let mut partner = world.user("partner", "axo").await;
    let case = open_case(&mut partner, "Contested").await;
    let path = format!("/cases/{}", case.id);
    let change = |title: &str| CaseChange {
        title: title.to_owned(),
        client: case.client.clone(),
        closed: false,
        version: case.version,
    };
    let answer = partner.put(&path, &change("First")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = partner.put(&path, &change("Second")).await;
    assert_refused(&answer, 409, "stale-version");
    let answer = partner.delete(&format!("{path}?version=1")).await;
    assert_refused(&answer, 409, "stale-version");
    let kept: Case = partner.get(&path).await.json().expect("the case");
    assert_eq!((kept.title.as_str(), kept.version), ("First", 2));
}

pub async fn bad_requests_are_refused_in_our_words(world: &World) {
    let mut partner = world.user("partner", "axo").await;
    let case = open_case(&mut partner, "Twice").await;
    let same = NewCase {
        title: case.title,
        client: case.client,
    };
    assert_refused(&partner.post("/cases", &same).await, 409, "case-exists");
    let too_long = json!({"title": "x".repeat(201), "client": "y"});
    assert_refused(&partner.post("/cases", &too_long).await, 422, "bad-text");
    let half = json!({"title": "x"});
    assert_refused(&partner.post("/cases", &half).await, 400, "bad-body");
    assert_refused(&partner.get("/cases?limit=x").await, 400, "bad-query");
    assert_refused(&partner.get("/cases?after=x").await, 400, "bad-query");
    assert_refused(&partner.get("/cases/x").await, 404, "no-such-path");
    assert_refused(&partner.get("/x").await, 404, "no-such-path");
    let unknown = json!({"user": "partner", "organisation": "nobody"});
    assert_refused(
        &partner.post("/sign-in", &unknown).await,
        404,
        "unknown-tenant",
    );
    let bad = json!({"user": "partner", "organisation": "'; DROP TABLE cases"});
    assert_refused(&partner.post("/sign-in", &bad).await, 400, "bad-tenant");
    let stranger = json!({"user": "stranger", "organisation": "axo"});
    assert_refused(
        &partner.post("/sign-in", &stranger).await,
        403,
        "not-a-member",
    );
    // A NUL is no text for PostgreSQL; what it says of it stays here.
    let nul = json!({"title": "x\u{0}y", "client": "z"});
    assert_refused(&partner.post("/cases", &nul).await, 400, "invalid-text");
}

pub async fn open_case(user: &mut User, title: &str) -> Case {
    let draft = NewCase {
        title: title.to_owned(),
        client: "Harbour Mill".to_owned(),
    };
    let answer = user.post("/cases", &draft).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json().expect("a case")
}

async fn cases(user: &mut User, path: &str) -> (Vec<Case>, Option<String>) {
    let answer = user.get(path).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let page: Value = answer.json().expect("a page");
    let items = serde_json::from_value(page["items"].clone()).expect("cases");
    (items, page["next"].as_str().map(str::to_owned))
}
