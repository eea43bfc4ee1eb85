//! An HTTP client that is no more than a connection.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use crate::Failure;

pub struct Client {
    address: SocketAddr,
    open: Option<Open>,
}

struct Open {
    sender: SendRequest<Body>,
    task: AbortHandle,
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub content_type: String,
    pub retry_after: Option<String>,
    pub body: Vec<u8>,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            open: None,
        }
    }

    /// Opens a connection where there is none. One that failed is not used again.
    ///
    /// A server may end a connection after an answer (actix does where a request was refused before
    /// its body had come), which is known here only once somebody has looked: a request of which
    /// nothing was sent goes to the next connection.
    pub async fn send(&mut self, mut request: Request<Body>) -> Result<Answer, Failure> {
        let (open, response) = loop {
            let (mut open, kept) = match self.open.take() {
                Some(open) if !open.sender.is_closed() => (open, true),
                _ => (Open::connect(self.address).await?, false),
            };
            if let Err(error) = open.sender.ready().await {
                if kept {
                    continue;
                }
                return Err(error.into());
            }
            match open.sender.try_send_request(request).await {
                Ok(response) => break (open, response),
                Err(mut error) => match error.take_message() {
                    Some(unsent) if kept => request = unsent,
                    _ => return Err(error.into_error().into()),
                },
            }
        };
        let (head, body) = response.into_parts();
        let body = axum::body::to_bytes(Body::new(body), usize::MAX).await?;
        self.open = Some(open);
        let text = |name| {
            let value = head.headers.get(name)?;
            Some(value.to_str().ok()?.to_owned())
        };
        Ok(Answer {
            status: head.status,
            content_type: text(header::CONTENT_TYPE).unwrap_or_default(),
            retry_after: text(header::RETRY_AFTER),
            body: body.into(),
        })
    }

    /// Hangs up if no answer has come after this time: whoever works on it is cancelled.
    pub async fn send_for(
        &mut self,
        request: Request<Body>,
        patience: Duration,
    ) -> Option<Result<Answer, Failure>> {
        // Dropped half-way, the connection is not put back, and goes.
        tokio::time::timeout(patience, self.send(request))
            .await
            .ok()
    }
}

impl Open {
    async fn connect(address: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let task = tokio::spawn(async move {
            // How it ended is told to whoever sends.
            let _ = connection.await;
        });
        Ok(Self {
            sender,
            task: task.abort_handle(),
        })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Answer {
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        Ok(serde_json::from_slice(&self.body)?)
    }

    /// The name of the problem, if that is what it is.
    pub fn problem(&self) -> Option<String> {
        if self.content_type != "application/problem+json" {
            return None;
        }
        let body: serde_json::Value = self.json().ok()?;
        let name = body["type"].as_str()?.strip_prefix("/problems/")?;
        Some(name.to_owned())
    }
}
