//! A proxy on the wire between sqlx and PostgreSQL: adds latency and counts round trips.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// Lives as long as it is held; its connections end with it.
pub struct Proxy {
    port: u16,
    trips: Arc<AtomicU64>,
    accepted: Arc<AtomicU64>,
    silenced: Arc<AtomicU64>,
    listener: AbortHandle,
}

impl Proxy {
    /// In front of this server, with this much latency each way.
    pub async fn start(server: &PgConnectOptions, latency: Duration) -> Self {
        Self::start_with(server, latency, Duration::ZERO).await
    }

    /// One that passes a client's farewell on after a while only, as a busy server is late to end
    /// a session.
    pub async fn slow_to_part(server: &PgConnectOptions, delay: Duration) -> Self {
        Self::start_with(server, Duration::ZERO, delay).await
    }

    async fn start_with(server: &PgConnectOptions, latency: Duration, farewell: Duration) -> Self {
        let target = (server.get_host().to_owned(), server.get_port());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let trips = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&trips);
        let accepted = Arc::new(AtomicU64::new(0));
        let silenced = Arc::new(AtomicU64::new(0));
        let (numbers, silence) = (Arc::clone(&accepted), Arc::clone(&silenced));
        let listener = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&target).await else {
                    continue;
                };
                for stream in [&client, &server] {
                    stream.set_nodelay(true).expect("an option of TCP");
                }
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let answered = Arc::new(AtomicBool::new(true));
                let (asks, answers) = (Arc::clone(&answered), answered);
                let counter = Arc::clone(&counter);
                let number = numbers.fetch_add(1, Ordering::SeqCst);
                let (asking, answering) = (Arc::clone(&silence), Arc::clone(&silence));
                tokio::spawn(forward(
                    from_client,
                    to_server,
                    (latency, farewell),
                    move || {
                        if asks.swap(false, Ordering::SeqCst) {
                            counter.fetch_add(1, Ordering::SeqCst);
                        }
                        number >= asking.load(Ordering::SeqCst)
                    },
                ));
                let of_server = (latency, Duration::ZERO);
                tokio::spawn(forward(from_server, to_client, of_server, move || {
                    answers.store(true, Ordering::SeqCst);
                    number >= answering.load(Ordering::SeqCst)
                }));
            }
        })
        .abort_handle();
        Self {
            port,
            trips,
            accepted,
            silenced,
            listener,
        }
    }

    /// From now on the connections there are stay open and nothing comes through; new ones work.
    pub fn silence(&self) {
        let accepted = self.accepted.load(Ordering::SeqCst);
        self.silenced.store(accepted, Ordering::SeqCst);
    }

    /// The same server and role, through this proxy.
    pub fn before(&self, options: &PgConnectOptions) -> PgConnectOptions {
        options.clone().host("127.0.0.1").port(self.port)
    }

    /// How often a client sent something after it had heard of the server.
    pub fn trips(&self) -> u64 {
        self.trips.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    (latency, farewell): (Duration, Duration),
    passes: impl Fn() -> bool,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if !passes() {
            std::future::pending::<()>().await;
        }
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        // Terminate, which is a message of nothing but its type.
        if !farewell.is_zero() && buffer[..length] == [b'X', 0, 0, 0, 4] {
            tokio::time::sleep(farewell).await;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
    // Half a connection that ended is passed on as such: the server must see that its client left.
    let _ = to.shutdown().await;
}
