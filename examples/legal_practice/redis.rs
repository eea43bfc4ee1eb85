//! A Redis server that exists as long as the example does.

use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::Failure;

pub struct RedisServer {
    /// A shell that ends the server when this process has ended, in whatever way.
    guard: Child,
    port: u16,
}

impl RedisServer {
    /// Starts `redis-server` or `valkey-server` from `PATH`, on loopback, keeping nothing on disk.
    pub async fn start() -> Result<Self, Failure> {
        for attempt in 1.. {
            let port = free_port().await?;
            let mut server = Self {
                guard: spawn(port)?,
                port,
            };
            if server.is_up().await? {
                return Ok(server);
            }
            // Somebody else took the port in the meantime.
            if attempt == ATTEMPTS {
                return Err("redis-server does not start".into());
            }
        }
        unreachable!("the loop ends by itself")
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Whether it takes connections; `false` if it has ended.
    async fn is_up(&mut self) -> Result<bool, Failure> {
        while self.guard.try_wait()?.is_none() {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))
                .await
                .is_ok()
            {
                return Ok(true);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(false)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // The end of its input is what the shell waits for. It has nothing to lose.
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

const ATTEMPTS: u32 = 5;

async fn free_port() -> Result<u16, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    Ok(listener.local_addr()?.port())
}

fn spawn(port: u16) -> Result<Child, Failure> {
    let Some(program) = ["redis-server", "valkey-server"].into_iter().find(is_there) else {
        return Err(
            "there is no redis-server and no valkey-server: install one, name one that \
                    runs with --redis URL, or do without by --no-redis"
                .into(),
        );
    };
    let script = format!(
        "exec 3<&0; {program} --port {port} --bind 127.0.0.1 --save '' --appendonly no \
         >/dev/null 2>&1 3<&- & server=$!; \
         (cat <&3 >/dev/null; kill $server) >/dev/null 2>&1 & exec 3<&-; wait $server"
    );
    let guard = Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .spawn()?;
    Ok(guard)
}

fn is_there(program: &&str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
