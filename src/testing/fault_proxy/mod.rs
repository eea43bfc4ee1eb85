//! A proxy between a client and PostgreSQL that does to their connection what networks do.

mod counts;
mod dialogue;
mod dials;
mod fault;
mod link;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use dials::Dials;
use fault::{Effect, Fault, Unit};
use link::Link;

pub use counts::ProxyCounts;
pub use fault::Direction;

/// A proxy on the loopback interface in front of a PostgreSQL server: it delays, stops, or cuts
/// what passes, to the message or to the byte, and counts it.
///
/// ```no_run
/// use tenantry::testing::{Direction, FaultProxy, PostgresServer};
/// use tenantry::{StaticDirectory, TenantRegistry};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let server = PostgresServer::start().await?;
/// let app = server.create_database("accounts").await?.username("app");
/// let proxy = FaultProxy::start(&app).await?;
/// let directory = StaticDirectory::new().shared_by_all(proxy.connect_options(&app));
/// let registry = TenantRegistry::builder(directory).build().await?;
///
/// // The server gets the next message, and nobody hears what became of it.
/// proxy.cut_after_messages(Direction::ToServer, 1);
/// # let _ = registry;
/// # Ok(())
/// # }
/// ```
///
/// A connection that is cut ends for both sides at once: what had passed before has arrived, and
/// nothing passes after it. What the server still says to that session is read and thrown away.
///
/// It runs as tasks of the runtime on which it was started, so that on a runtime of one thread it
/// stands still while a test blocks that thread. Messages are told apart as long as they are not
/// encrypted; what is (or is no PostgreSQL protocol at all) passes unread: bytes and round trips
/// are counted, messages are not.
///
/// # Drop
///
/// Its connections end, and its port is closed, when the runtime next has time for it.
pub struct FaultProxy {
    port: u16,
    shared: Arc<Shared>,
    listener: AbortHandle,
}

/// What the proxy and its connections have in common.
struct Shared {
    dials: watch::Sender<Dials>,
    /// Of all connections together, from the moment at which it was armed.
    fault: Mutex<Option<Fault>>,
    counts: Mutex<ProxyCounts>,
    /// The connections that have not ended for both sides, and whether a fault has cut them.
    open: watch::Sender<BTreeMap<u64, bool>>,
}

impl FaultProxy {
    /// In front of the server that these options lead to. Nothing is delayed or cut at first.
    ///
    /// # Errors
    ///
    /// No port could be had, or the options name a socket by [`PgConnectOptions::socket`], which
    /// cannot be changed to lead elsewhere: name the socket's folder by
    /// [`PgConnectOptions::host`] instead.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn start(server: &PgConnectOptions) -> io::Result<Self> {
        if server.get_socket().is_some() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, SOCKET));
        }
        let upstream = Upstream::of(server);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            dials: watch::Sender::new(Dials::default()),
            fault: Mutex::default(),
            counts: Mutex::default(),
            open: watch::Sender::default(),
        });
        let accepting = accept(listener, upstream, Arc::clone(&shared));
        Ok(Self {
            port,
            shared,
            listener: tokio::spawn(accepting).abort_handle(),
        })
    }

    /// The same role, password and database through this proxy.
    ///
    /// Where encryption was not demanded (`prefer`, `allow`) it is switched off, so that messages
    /// can be told apart.
    ///
    /// # Panics
    ///
    /// If the options name a socket by [`PgConnectOptions::socket`]: they would go past the proxy.
    pub fn connect_options(&self, options: &PgConnectOptions) -> PgConnectOptions {
        assert!(options.get_socket().is_none(), "{SOCKET}");
        let ours = options.clone().host("127.0.0.1").port(self.port);
        match options.get_ssl_mode() {
            PgSslMode::Prefer | PgSslMode::Allow => ours.ssl_mode(PgSslMode::Disable),
            _ => ours,
        }
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on whatever passes takes this much longer, each way. Default none.
    pub fn set_latency(&self, each_way: Duration) {
        self.shared
            .dials
            .send_modify(|dials| dials.latency = each_way);
    }

    /// From now on a client's farewell is passed on after this time only, as a busy server is late
    /// to end a session. Default none.
    pub fn slow_to_part(&self, delay: Duration) {
        self.shared
            .dials
            .send_modify(|dials| dials.farewell = delay);
    }

    /// From now on nothing passes, neither of the connections there are nor of new ones, and all
    /// of them stay open: a network that swallows everything.
    pub fn freeze(&self) {
        self.shared
            .dials
            .send_modify(|dials| dials.frozen.all = true);
    }

    /// As [`freeze`](Self::freeze), but new connections work.
    pub fn freeze_existing(&self) {
        let accepted = self.shared.counts.lock().connections();
        self.shared
            .dials
            .send_modify(|dials| dials.frozen.below = accepted);
    }

    /// What was frozen goes on, with what was sent meanwhile.
    pub fn thaw(&self) {
        self.shared
            .dials
            .send_modify(|dials| dials.frozen = Default::default());
    }

    /// Cuts the connections that there are now, those that are frozen too.
    pub fn cut(&self) {
        let accepted = self.shared.counts.lock().connections();
        self.shared
            .dials
            .send_modify(|dials| dials.cut_below = accepted);
    }

    /// From now on so many bytes pass in this direction, over all connections, and behind the last
    /// of them its connection is cut. That happens once. With 0 the connection is cut on which the
    /// next byte comes, and the byte does not pass.
    pub fn cut_after_bytes(&self, direction: Direction, bytes: u64) {
        self.arm(Fault::new(direction, Unit::Bytes, bytes, Effect::Cut));
    }

    /// As [`cut_after_bytes`](Self::cut_after_bytes), counted in messages of the protocol.
    pub fn cut_after_messages(&self, direction: Direction, messages: u64) {
        self.arm(Fault::new(direction, Unit::Messages, messages, Effect::Cut));
    }

    /// As [`cut_after_messages`](Self::cut_after_messages), but the connection is frozen and not
    /// cut, until [`thaw`](Self::thaw).
    pub fn freeze_after_messages(&self, direction: Direction, messages: u64) {
        self.arm(Fault::new(
            direction,
            Unit::Messages,
            messages,
            Effect::Freeze,
        ));
    }

    /// From now on each new connection is cut when so many bytes have passed in this direction.
    pub fn cut_each_after_bytes(&self, direction: Direction, bytes: u64) {
        self.arm_each(Fault::new(direction, Unit::Bytes, bytes, Effect::Cut));
    }

    /// From now on each new connection is cut when so many messages have passed in this direction.
    /// What precedes a session counts: an SSLRequest, the StartupMessage, the password.
    pub fn cut_each_after_messages(&self, direction: Direction, messages: u64) {
        self.arm_each(Fault::new(direction, Unit::Messages, messages, Effect::Cut));
    }

    /// Takes back what was armed by `cut_after_*`, `freeze_after_*` and `cut_each_after_*` and has
    /// not happened.
    pub fn disarm(&self) {
        *self.shared.fault.lock() = None;
        self.shared.dials.send_modify(|dials| dials.each = None);
    }

    /// Comes back when the server has ended the session of every connection that was cut: what had
    /// passed has had its effect then, or will have none. For whoever wants to see which.
    ///
    /// A statement goes on in the server for as long as it takes, or until the server looks whether
    /// its client is there (`client_connection_check_interval`); after 10 s it is no longer waited
    /// for.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn parted(&self) {
        let mut open = self.shared.open.subscribe();
        let cut_below = self.shared.dials.borrow().cut_below;
        let parted = open.wait_for(|open| {
            let mut open = open.iter();
            open.all(|(number, is_cut)| *number >= cut_below && !is_cut)
        });
        // The sender is ours.
        let _ = parted.await;
    }

    /// What has passed since the start.
    pub fn counts(&self) -> ProxyCounts {
        self.shared.counts.lock().clone()
    }

    fn arm(&self, fault: Fault) {
        *self.shared.fault.lock() = Some(fault);
    }

    fn arm_each(&self, fault: Fault) {
        self.shared
            .dials
            .send_modify(|dials| dials.each = Some(fault));
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl fmt::Debug for FaultProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultProxy")
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// Where the server is.
#[derive(Clone)]
enum Upstream {
    Tcp(String, u16),
    Unix(PathBuf),
}

impl Upstream {
    fn of(server: &PgConnectOptions) -> Self {
        let (host, port) = (server.get_host(), server.get_port());
        match host.starts_with('/') {
            true => Self::Unix(PathBuf::from(format!("{host}/.s.PGSQL.{port}"))),
            false => Self::Tcp(host.to_owned(), port),
        }
    }
}

/// Ends by being aborted only, and all connections with it.
async fn accept(listener: TcpListener, upstream: Upstream, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((client, _)) = listener.accept().await else {
            // Out of descriptors, or a client that has left already: worth another try, later.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let link = Link::new(Arc::clone(&shared));
        connections.spawn(serve(link, client, upstream.clone()));
    }
}

async fn serve(link: Link, client: TcpStream, upstream: Upstream) {
    let _ = client.set_nodelay(true);
    // A network that swallows everything does not let anybody connect.
    link.thawed().await;
    match upstream {
        Upstream::Tcp(host, port) => {
            if let Ok(server) = TcpStream::connect((host, port)).await {
                let _ = server.set_nodelay(true);
                link.run(client, server).await;
            }
        }
        Upstream::Unix(path) => {
            if let Ok(server) = UnixStream::connect(path).await {
                link.run(client, server).await;
            }
        }
    }
}

const SOCKET: &str = "a proxy cannot stand before what PgConnectOptions::socket names: \
    name the socket's folder with PgConnectOptions::host";
