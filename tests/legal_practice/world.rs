//! A PostgreSQL and a Redis for all tests of this file, and a database and a service for each.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::body::Body;
use axum::http::{Method, Request, header};
use sqlx::PgConnection;
use tenantry::testing::PostgresServer;
use tokio::sync::{Mutex, OnceCell};

use crate::api::{SignIn, SignedIn};
use crate::app::{self, App};
use crate::client::{Answer, Client};
use crate::database::{self, Database};
use crate::options::Framework;
use crate::practice::Practice;
use crate::redis::RedisServer;
use crate::tokens::Tokens;

pub struct World {
    pub address: SocketAddr,
    pub practice: Practice,
    pub database: Database,
    app: Option<App>,
}

/// What tokens are signed with, so that tests can sign what the service never would.
pub const SECRET: [u8; 32] = *b"the secret of tests and no other";

static SERVER: OnceCell<PostgresServer> = OnceCell::const_new();
static REDIS: OnceCell<RedisServer> = OnceCell::const_new();
static NUMBER: AtomicU32 = AtomicU32::new(0);

impl World {
    pub async fn start(framework: Framework) -> Self {
        let redis = REDIS.get_or_init(|| async {
            RedisServer::start()
                .await
                .expect("Redis: run ./scripts/test")
        });
        let redis = redis.await.url();
        let server = SERVER.get_or_init(|| async {
            PostgresServer::builder()
                .setting("max_connections", "300")
                .start()
                .await
                .expect("PostgreSQL: run ./scripts/test")
        });
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("legal_practice_{}_{number}", std::process::id());
        let database = {
            // Two that make a database from one template get in each other's way.
            static TURN: Mutex<()> = Mutex::const_new(());
            let _turn = TURN.lock().await;
            Database::prepare(server.await.connect_options(), &name)
                .await
                .expect("a database")
        };
        let mut practice = app::practice(database.service.clone(), Some(&redis))
            .await
            .expect("a practice");
        practice.tokens = Arc::new(Tokens::of(SECRET));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("its address");
        let app = App::start(framework, listener, practice.clone()).expect("a service");
        Self {
            address,
            practice,
            database,
            app: Some(app),
        }
    }

    /// A user of an organisation, signed in.
    pub async fn user(&self, user: &str, organisation: &str) -> User {
        let mut client = User {
            client: Client::new(self.address),
            token: None,
        };
        let sign_in = SignIn {
            user: user.to_owned(),
            organisation: organisation.to_owned(),
        };
        let answer = client.ask(Method::POST, "/sign-in", &sign_in).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let signed_in: SignedIn = answer.json().expect("a token");
        client.token = Some(signed_in.token);
        client
    }

    /// Somebody with this token, or with none.
    pub fn anybody(&self, token: Option<String>) -> User {
        User {
            client: Client::new(self.address),
            token,
        }
    }

    pub async fn owner(&self) -> PgConnection {
        database::connect(&self.database.owner)
            .await
            .expect("the owner")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The test is over, and its runtime with it. What is under way is told by the test.
        drop(self.app.take());
    }
}

/// Somebody who asks.
pub struct User {
    client: Client,
    pub token: Option<String>,
}

impl User {
    pub async fn get(&mut self, path: &str) -> Answer {
        self.send(Method::GET, path, Body::empty()).await
    }

    pub async fn delete(&mut self, path: &str) -> Answer {
        self.send(Method::DELETE, path, Body::empty()).await
    }

    pub async fn post(&mut self, path: &str, body: &impl serde::Serialize) -> Answer {
        self.ask(Method::POST, path, body).await
    }

    pub async fn put(&mut self, path: &str, body: &impl serde::Serialize) -> Answer {
        self.ask(Method::PUT, path, body).await
    }

    pub async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Answer {
        let body = serde_json::to_vec(body).expect("JSON");
        self.send(method, path, Body::from(body)).await
    }

    pub async fn send(&mut self, method: Method, path: &str, body: Body) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "practice.example")
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(body).expect("a request");
        self.client.send(request).await.expect("an answer")
    }
}

/// That it was refused with this status, under this name, and in no other words than ours.
#[track_caller]
pub fn assert_refused(answer: &Answer, status: u16, name: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.problem().as_deref(), Some(name), "{answer:?}");
}
