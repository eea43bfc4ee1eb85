//! A PgBouncer that exists only as long as it is held.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::missing_panics_doc)]

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;

use crate::folder::Folder;
use crate::support::redis::free_port;

/// On a free port of the loopback interface, in front of all databases of a server.
///
/// # Drop
///
/// Ends it. If this process is killed, it ends by itself: the shell that started it waits for the
/// end of its input.
pub struct PgBouncer {
    port: u16,
    guard: Child,
    _folder: Folder,
}

/// What is written into its configuration.
pub struct Configuration {
    pool_mode: &'static str,
    /// Sessions of the server for each database and role.
    pool_size: usize,
    prepared_statements: usize,
    more: String,
}

/// `pool_mode = transaction`, which ignores the start-up parameter that sqlx cannot do without
/// being told.
pub fn by_transaction(pool_size: usize) -> Configuration {
    Configuration {
        pool_mode: "transaction",
        pool_size,
        prepared_statements: 0,
        more: "ignore_startup_parameters = extra_float_digits\n".to_owned(),
    }
}

impl Configuration {
    pub fn by_session(mut self) -> Self {
        self.pool_mode = "session";
        self
    }

    /// As from 1.21 on.
    pub fn prepared_statements(mut self, number: usize) -> Self {
        self.prepared_statements = number;
        self
    }

    pub fn ignoring(mut self, parameters: &str) -> Self {
        self.more = format!("ignore_startup_parameters = {parameters}\n");
        self
    }

    /// # Panics
    ///
    /// Where there is no PgBouncer: `TENANTRY_PGBOUNCER` names one that is not on the path.
    pub async fn start(self, server: &PgConnectOptions) -> PgBouncer {
        // Somebody else may take the port meanwhile.
        for _ in 0..10 {
            if let Some(pooler) = self.try_start(server).await {
                return pooler;
            }
        }
        panic!("these tests need PgBouncer: run ./scripts/test");
    }

    async fn try_start(&self, server: &PgConnectOptions) -> Option<PgBouncer> {
        let port = free_port();
        let folder = Folder::new();
        let users = folder.path().join("users.txt");
        std::fs::write(
            &users,
            "\"app\" \"\"\n\"postgres\" \"\"\n\"support\" \"\"\n",
        )
        .ok()?;
        let Self {
            pool_mode,
            pool_size,
            more,
            ..
        } = self;
        // PgBouncer before 1.21 does not know the setting, and does without.
        let prepared = match version() >= (1, 21) {
            true => format!("max_prepared_statements = {}\n", self.prepared_statements),
            false => String::new(),
        };
        let configuration = format!(
            "[databases]\n* = host={host} port={server_port}\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = trust\nauth_file = {users}\npool_mode = {pool_mode}\n\
             default_pool_size = {pool_size}\nmax_client_conn = 500\nserver_login_retry = 1\n\
             {prepared}{more}",
            host = server.get_host(),
            server_port = server.get_port(),
            users = users.display(),
        );
        let file = folder.path().join("pgbouncer.ini");
        std::fs::File::create(&file)
            .and_then(|mut file| file.write_all(configuration.as_bytes()))
            .ok()?;
        for path in [folder.path(), &file, &users] {
            let mode = if path.is_dir() { 0o755 } else { 0o644 };
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).ok()?;
        }
        // It refuses to run as root, and there every system has this user.
        let user = match is_root() {
            true => "--user nobody",
            false => "",
        };
        let script = format!(
            "exec 2>/dev/null; {program} {user} --quiet {file} >/dev/null 2>&1 & pooler=$!; \
             cat >/dev/null; kill -KILL $pooler; wait $pooler",
            program = program().display(),
            file = file.display(),
        );
        let guard = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .spawn()
            .ok()?;
        let pooler = PgBouncer {
            port,
            guard,
            _folder: folder,
        };
        for _ in 0..500 {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Some(pooler);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        None
    }
}

impl PgBouncer {
    /// The same database and role, through it.
    pub fn before(&self, options: &PgConnectOptions) -> PgConnectOptions {
        options
            .clone()
            .host(&Ipv4Addr::LOCALHOST.to_string())
            .port(self.port)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// Major and minor version.
pub fn version() -> (u32, u32) {
    static VERSION: OnceLock<(u32, u32)> = OnceLock::new();
    *VERSION.get_or_init(|| {
        let output = Command::new(program())
            .arg("--version")
            .output()
            .expect("these tests need PgBouncer: run ./scripts/test");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let words = text.split_whitespace().nth(1).unwrap_or_default();
        let mut numbers = words.split('.').map_while(|number| number.parse().ok());
        let version = numbers.next().zip(numbers.next());
        version.expect("PgBouncer says which version it is")
    })
}

/// Debian keeps it where only root looks.
fn program() -> PathBuf {
    if let Some(named) = std::env::var_os("TENANTRY_PGBOUNCER") {
        return named.into();
    }
    let sbin = PathBuf::from("/usr/sbin/pgbouncer");
    match sbin.exists() {
        true => sbin,
        false => "pgbouncer".into(),
    }
}

fn is_root() -> bool {
    let mine =
        std::fs::metadata("/proc/self").map(|folder| std::os::unix::fs::MetadataExt::uid(&folder));
    mine.is_ok_and(|uid| uid == 0)
}
