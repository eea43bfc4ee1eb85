//! The `sh` script that outlives this process for as long as it takes to clean up.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use super::ServerError;
use super::account::Account;
use super::blocking::{blocking, pause};

/// A running watchdog and the folder it keeps. Its first program is `initdb`, each next one is
/// `postgres`.
///
/// # Drop
///
/// Closes the pipe and returns at once; the watchdog stops the program and deletes the folder.
#[derive(Debug)]
pub(super) struct Watchdog {
    folder: PathBuf,
    process: Option<Process>,
}

#[derive(Debug)]
struct Process {
    child: Child,
    orders: ChildStdin,
}

/// What the watchdog is told.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    /// Stop the program: roll back what is open, write everything down.
    Fast,
    /// Stop the program as a crash would.
    Immediate,
    /// Start `postgres`, once the program before it has ended.
    Next,
}

impl Watchdog {
    pub(super) async fn spawn(
        binaries: PathBuf,
        account: Option<Account>,
    ) -> Result<Self, ServerError> {
        blocking(move || Self::spawn_blocking(&binaries, account)).await
    }

    fn spawn_blocking(binaries: &Path, account: Option<Account>) -> Result<Self, ServerError> {
        let mut command = Command::new("sh");
        command
            // The script itself would fill the list of processes.
            .env(SCRIPT_VARIABLE, SCRIPT)
            .args([
                "-c",
                &format!("eval \"${SCRIPT_VARIABLE}\""),
                "tenantry-watchdog",
            ])
            .arg(format!("tenantry-{:016x}", fastrand::u64(..)))
            .arg(binaries)
            .args(places())
            // A terminal's SIGINT goes to the process group in front. The watchdog has to live on.
            .process_group(0)
            // The account may not be allowed into the folder this process is in.
            .current_dir("/")
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        // Such as PGDATA and PGPORT, which are meant for another server.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_bytes().starts_with(b"PG"))
        {
            command.env_remove(name);
        }
        if let Some(Account { uid, gid }) = account {
            command.uid(uid).gid(gid);
        }

        let mut child = command.spawn().map_err(ServerError::io("starting `sh`"))?;
        let (Some(orders), Some(answer)) = (child.stdin.take(), child.stdout.take()) else {
            let missing = io::Error::other("a pipe is missing");
            return Err(ServerError::Io {
                operation: "starting `sh`",
                source: missing,
            });
        };
        let mut watchdog = Self {
            folder: PathBuf::new(),
            process: Some(Process { child, orders }),
        };
        let mut line = Vec::new();
        BufReader::new(answer)
            .read_until(b'\n', &mut line)
            .map_err(ServerError::io("reading the answer of `sh`"))?;
        if line.pop() != Some(b'\n') {
            return Err(ServerError::NoFolder);
        }
        watchdog.folder = PathBuf::from(std::ffi::OsString::from_vec(line));
        Ok(watchdog)
    }

    /// The folder; the log, the data and the socket are in it.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The process id of the program that was started last, once it is known.
    pub(super) fn program_id(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.folder.join("pid")).ok()?;
        text.strip_suffix('\n').map(str::to_owned)
    }

    /// The exit status of the program that was started last, if it has ended.
    pub(super) fn ended(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.folder.join("ended")).ok()?;
        Some(text.trim_end().to_owned())
    }

    pub(super) fn order(&self, order: Order) -> Result<(), ServerError> {
        let word: &[u8] = match order {
            Order::Fast => b"fast\n",
            Order::Immediate => b"immediate\n",
            Order::Next => {
                // What these files say is about the program before.
                for name in ["pid", "ended"] {
                    let removed = std::fs::remove_file(self.folder.join(name));
                    removed
                        .or_else(ignore_missing)
                        .map_err(ServerError::io("starting the server"))?;
                }
                b"next\n"
            }
        };
        match &self.process {
            Some(process) => (&process.orders)
                .write_all(word)
                .map_err(ServerError::io("ordering the watchdog")),
            None => Ok(()),
        }
    }

    /// Closes the pipe and waits until the server and its folder are gone.
    pub(super) async fn close(mut self) -> Result<(), ServerError> {
        let Some(Process { child, orders }) = self.process.take() else {
            return Ok(());
        };
        let mut reaper = Reaper(Some(child));
        drop(orders);
        let started = Instant::now();
        while !reaper.has_ended()? {
            if started.elapsed() > CLOSE_TIMEOUT {
                return Err(ServerError::Timeout {
                    operation: "stop",
                    log: String::new(),
                });
            }
            pause(POLL).await?;
        }
        match std::fs::symlink_metadata(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(ServerError::Io {
                operation: "deleting the server's folder",
                source: error,
            }),
            Ok(_) => Err(ServerError::Io {
                operation: "deleting the server's folder",
                source: io::Error::from(io::ErrorKind::DirectoryNotEmpty),
            }),
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if let Some(Process { child, orders }) = self.process.take() {
            drop(orders);
            drop(Reaper(Some(child)));
        }
    }
}

/// Waits for the watchdog, so that it does not stay a zombie for as long as this process runs.
struct Reaper(Option<Child>);

impl Reaper {
    fn has_ended(&mut self) -> Result<bool, ServerError> {
        let Some(child) = &mut self.0 else {
            return Ok(true);
        };
        let status = child
            .try_wait()
            .map_err(ServerError::io("waiting for the watchdog"))?;
        if status.is_some() {
            self.0 = None;
        }
        Ok(status.is_some())
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let name = "tenantry-reaper".to_owned();
            // Without a thread a zombie is left, which takes no more than its entry in the
            // process table.
            let _ = std::thread::Builder::new()
                .name(name)
                .spawn(move || child.wait());
        }
    }
}

/// Where the folder may go. `TMPDIR` is often too long for the path of a Unix socket, or closed to
/// the account that a root process changes to.
fn places() -> impl Iterator<Item = PathBuf> {
    [
        std::env::temp_dir(),
        PathBuf::from("/tmp"),
        PathBuf::from("/var/tmp"),
    ]
    .into_iter()
    .filter(|place| place.is_absolute() && place.as_os_str().len() <= PLACE_LIMIT)
    // The watchdog answers in a line.
    .filter(|place| !place.as_os_str().as_bytes().contains(&b'\n'))
}

fn ignore_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound {
        Ok(())
    } else {
        Err(error)
    }
}

const SCRIPT: &str = include_str!("watchdog.sh");

/// The script unsets it.
const SCRIPT_VARIABLE: &str = "TENANTRY_WATCHDOG";

/// In bytes. A socket's path holds 103 of them on macOS, 107 on Linux; `/tenantry-<16>` and
/// `/.s.PGSQL.<5>` come on top.
const PLACE_LIMIT: usize = 103 - 26 - 15;

/// The server has five seconds for an immediate stop before it kills its own children.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) const POLL: Duration = Duration::from_millis(10);
