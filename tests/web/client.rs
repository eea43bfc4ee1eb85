//! An HTTP client that is no more than a connection, and asks of each refusal that it tells nothing.

use std::net::SocketAddr;

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::stage::soon;

/// Stands in every message of the database, and in the password.
pub const MARKER: &str = "marker-8d2e";
pub const A: &str = "acme-7141";
pub const B: &str = "globex-9352";

/// What no refusal holds, in its head or in its body.
const FORBIDDEN: &[&str] = &[
    MARKER, A, B, "notes", "SELECT", "INSERT", "COMMIT", "postgres", "sqlx", "secret",
];

/// What a rejection, and whoever sends it, says in its head.
const HEADERS: &[&str] = &[
    "cache-control",
    "connection",
    "content-length",
    "content-type",
    "date",
    "retry-after",
    "www-authenticate",
];

/// One request; `x-tenant` names the tenant.
#[derive(Clone)]
pub struct Ask {
    address: SocketAddr,
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: String,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl Ask {
    pub fn new(address: SocketAddr, method: Method, path: &str) -> Self {
        Self {
            address,
            method,
            path: path.to_owned(),
            headers: Vec::new(),
            body: String::new(),
        }
    }

    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub fn body(mut self, body: &str) -> Self {
        self.body = body.to_owned();
        self
    }

    pub async fn send(self) -> Answer {
        let body = Body::from(self.body.clone());
        let mut open = self.open().await;
        let response = soon(sender_send(&mut open.sender, self.request(body))).await;
        Answer::read(response.expect("an answer")).await
    }

    /// The connection and the request on it; who drops it hangs up.
    pub async fn start(self, body: Body) -> Started {
        let mut open = self.open().await;
        let request = self.request(body);
        let answer = tokio::spawn(async move {
            let response = sender_send(&mut open.sender, request).await.ok()?;
            let answer = Answer::read(response).await;
            drop(open);
            Some(answer)
        });
        Started(answer)
    }

    fn request(&self, body: Body) -> Request<Body> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(&self.path)
            .header("host", self.address.to_string());
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        request.body(body).expect("a request")
    }

    async fn open(&self) -> Open {
        let stream = TcpStream::connect(self.address).await.expect("served");
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
        let task = tokio::spawn(async move {
            // How it ended is told to whoever sends.
            let _ = connection.await;
        });
        Open { sender, task }
    }
}

async fn sender_send(
    sender: &mut SendRequest<Body>,
    request: Request<Body>,
) -> hyper::Result<Response<Incoming>> {
    sender.ready().await?;
    sender.send_request(request).await
}

struct Open {
    sender: SendRequest<Body>,
    task: JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A request whose answer nobody has waited for yet.
pub struct Started(JoinHandle<Option<Answer>>);

impl Started {
    /// `None` if the server closed the connection instead.
    pub async fn answer(self) -> Option<Answer> {
        soon(self.0).await.expect("no panic")
    }

    pub fn hang_up(self) {
        self.0.abort();
    }
}

impl Answer {
    async fn read(response: Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let body = axum::body::to_bytes(Body::new(body), usize::MAX)
            .await
            .expect("a whole body");
        let answer = Self {
            status: head.status.as_u16(),
            headers: head.headers,
            body: String::from_utf8(body.into()).expect("text"),
        };
        if answer.status >= 400 {
            let everything = format!("{answer:?}");
            for word in FORBIDDEN {
                assert!(!everything.contains(word), "{word:?} in {everything}");
            }
        }
        answer
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub fn is(&self, status: StatusCode) -> bool {
        self.status == status.as_u16()
    }

    /// `status name`, then what the headers say, of a rejection that is one in all its parts.
    pub fn rejection(&self) -> String {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        assert_eq!(self.header("cache-control"), Some("no-store"), "{self:?}");
        for name in self.headers.keys() {
            assert!(HEADERS.contains(&name.as_str()), "{self:?}");
        }
        let problem: serde_json::Value = serde_json::from_str(&self.body).expect("JSON");
        let kind = problem["type"].as_str().expect("a type");
        let name = kind.strip_prefix("/problems/").expect("one of ours");
        let title = problem["title"].as_str().expect("a title");
        let body = format!(
            r#"{{"type":"{kind}","title":"{title}","status":{}}}"#,
            self.status
        );
        assert_eq!(self.body, body);
        let mut told = format!("{} {name}", self.status);
        if let Some(seconds) = self.header("retry-after") {
            told.push_str(&format!(" after {seconds}"));
        }
        if let Some(challenge) = self.header("www-authenticate") {
            told.push_str(&format!(" {challenge}"));
        }
        told
    }

    /// The notes that the answer lists.
    pub fn notes(&self) -> Vec<String> {
        assert!(self.is(StatusCode::OK), "{self:?}");
        serde_json::from_str(&self.body).expect("a list")
    }
}
