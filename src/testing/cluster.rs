//! A cluster of our own, from `initdb` to its end.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::sync::Mutex;

use super::ServerError;
use super::account::Account;
use super::blocking::pause;
use super::configuration::Configuration;
use super::watchdog::{Order, POLL, Watchdog};

/// A server that runs under a [`Watchdog`], or has run and can be started again.
#[derive(Debug)]
pub(super) struct Cluster {
    watchdog: Watchdog,
    port: u16,
    /// One start or stop at a time.
    turn: Mutex<()>,
}

impl Cluster {
    pub(super) async fn start(
        binaries: PathBuf,
        configuration: &Configuration,
    ) -> Result<Self, ServerError> {
        let watchdog = Watchdog::spawn(binaries, Account::choose()?).await?;
        let mut cluster = Self {
            watchdog,
            port: 0,
            turn: Mutex::new(()),
        };
        cluster.wait_for_initdb().await?;

        let file = cluster.data_folder().join("postgresql.conf");
        let initial =
            fs::read_to_string(&file).map_err(ServerError::io("reading postgresql.conf"))?;
        let socket_folder = cluster.watchdog.folder().to_string_lossy().into_owned();
        let mut collisions = 0;
        loop {
            cluster.port = free_port()?;
            let text = initial.clone() + &configuration.render(cluster.port, &socket_folder);
            fs::write(&file, text).map_err(ServerError::io("writing postgresql.conf"))?;
            match cluster.launch().await? {
                Launch::Ready => return Ok(cluster),
                Launch::Busy(_) if collisions < MAX_COLLISIONS => collisions += 1,
                Launch::Busy(error) => return Err(error),
            }
        }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn folder(&self) -> &Path {
        self.watchdog.folder()
    }

    pub(super) fn connect_options(&self) -> PgConnectOptions {
        // PGPASSWORD and PGSSLMODE are meant for another server.
        PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username("postgres")
            .password("")
            .database("postgres")
            .ssl_mode(PgSslMode::Disable)
    }

    pub(super) fn socket_options(&self) -> PgConnectOptions {
        self.connect_options().socket(self.folder())
    }

    /// Stops what runs and starts it on the same port.
    pub(super) async fn restart(&self) -> Result<(), ServerError> {
        let _turn = self.turn.lock().await;
        self.halt(Order::Fast).await?;
        let started = Instant::now();
        loop {
            match self.launch().await? {
                Launch::Ready => return Ok(()),
                // A client's own end of a connection may sit on the port for a moment, and the
                // children of a server that was killed need one to notice.
                Launch::Busy(_) if started.elapsed() < TIMEOUT => pause(10 * POLL).await?,
                Launch::Busy(error) => return Err(error),
            }
        }
    }

    pub(super) async fn crash(&self) -> Result<(), ServerError> {
        let _turn = self.turn.lock().await;
        self.halt(Order::Immediate).await
    }

    pub(super) async fn stop(self) -> Result<(), ServerError> {
        self.watchdog.close().await
    }

    async fn wait_for_initdb(&self) -> Result<(), ServerError> {
        let started = Instant::now();
        loop {
            match self.watchdog.ended() {
                Some(status) if status == "0" => return Ok(()),
                Some(status) => return Err(self.ended("initdb", status)),
                None if started.elapsed() > TIMEOUT => return Err(self.timeout("be initialised")),
                None => pause(POLL).await?,
            }
        }
    }

    async fn launch(&self) -> Result<Launch, ServerError> {
        let log_start = fs::metadata(self.log_file()).map_or(0, |metadata| metadata.len());
        self.watchdog.order(Order::Next)?;
        let started = Instant::now();
        loop {
            if let Some(status) = self.watchdog.ended() {
                let error = self.ended("postgres", status);
                let log = self.log_from(log_start);
                return if BUSY.iter().any(|message| log.contains(message)) {
                    Ok(Launch::Busy(error))
                } else {
                    Err(error)
                };
            }
            if self.is_ready() {
                return Ok(Launch::Ready);
            }
            if started.elapsed() > TIMEOUT {
                return Err(self.timeout("come up"));
            }
            pause(POLL).await?;
        }
    }

    /// As `pg_ctl` finds out. The file of a server that was killed stays behind, so its first
    /// line has to be the process we started.
    fn is_ready(&self) -> bool {
        let Ok(text) = fs::read_to_string(self.data_folder().join("postmaster.pid")) else {
            return false;
        };
        let mut lines = text.lines();
        lines.next().map(str::to_owned) == self.watchdog.program_id()
            && lines
                .nth(6)
                .is_some_and(|status| status.starts_with("ready"))
    }

    async fn halt(&self, order: Order) -> Result<(), ServerError> {
        let started = Instant::now();
        let mut ordered: Option<Instant> = None;
        while self.watchdog.ended().is_none() {
            if started.elapsed() > TIMEOUT {
                return Err(self.timeout("stop"));
            }
            // Repeated, because a server that has only just been started misses the signal.
            if ordered.is_none_or(|at| at.elapsed() > REPEAT) {
                self.watchdog.order(order)?;
                ordered = Some(Instant::now());
            }
            pause(POLL).await?;
        }
        Ok(())
    }

    fn ended(&self, program: &'static str, status: String) -> ServerError {
        ServerError::Ended {
            program,
            status,
            log: self.log_tail(),
        }
    }

    fn timeout(&self, operation: &'static str) -> ServerError {
        ServerError::Timeout {
            operation,
            log: self.log_tail(),
        }
    }

    fn log_tail(&self) -> String {
        let log = self.log_from(0);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    fn log_from(&self, start: u64) -> String {
        let mut bytes = Vec::new();
        // Part of a log says more than an error about the log.
        let _ = fs::File::open(self.log_file()).and_then(|mut file| {
            file.seek(SeekFrom::Start(start))?;
            file.read_to_end(&mut bytes)
        });
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn log_file(&self) -> PathBuf {
        self.folder().join("log")
    }

    fn data_folder(&self) -> PathBuf {
        self.folder().join("data")
    }
}

enum Launch {
    Ready,
    /// Something in its way may be gone in a moment.
    Busy(ServerError),
}

/// A port that is free right now. Those that systems hand out to clients start at 32768 or higher;
/// below them nobody takes the port by chance while the server restarts.
fn free_port() -> Result<u16, ServerError> {
    for _ in 0..100 {
        let port = fastrand::u16(15_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    let listener = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    listener
        .map(|address| address.port())
        .map_err(ServerError::io("looking for a free port"))
}

/// What the log says then: of the port, and of the shared memory of an earlier server.
const BUSY: [&str; 2] = ["Address already in use", "is still in use"];

/// For each of `initdb`, a start and a stop; they take about a second on an idle machine.
const TIMEOUT: Duration = Duration::from_secs(60);

const REPEAT: Duration = Duration::from_secs(1);

const MAX_COLLISIONS: u32 = 20;

const LOG_LINES: usize = 20;
