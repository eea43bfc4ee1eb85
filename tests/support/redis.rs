//! A Redis server that exists only as long as it is held.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// On a free port of the loopback interface, and nothing of it is on the disk.
///
/// # Drop
///
/// Ends the server. If this process is killed, the server ends by itself: the shell that started it
/// waits for the end of its input.
pub struct RedisServer {
    port: u16,
    guard: Child,
}

impl RedisServer {
    /// # Panics
    ///
    /// Where there is no `redis-server` in the path.
    pub fn start() -> Self {
        // Somebody else may take the port meanwhile.
        for _ in 0..10 {
            if let Some(server) = Self::try_start(free_port()) {
                return server;
            }
        }
        panic!("these tests need redis-server in the path");
    }

    /// Again on the port of one that has ended.
    pub fn start_on(port: u16) -> Self {
        Self::try_start(port).expect("the port is still free")
    }

    fn try_start(port: u16) -> Option<Self> {
        let script = format!(
            "redis-server --bind 127.0.0.1 --port {port} --save '' --appendonly no --dir /tmp \
             --daemonize no >/dev/null 2>&1 & server=$!; cat >/dev/null; kill $server; wait $server"
        );
        let guard = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .spawn()
            .ok()?;
        let mut server = Self { port, guard };
        for _ in 0..500 {
            if server
                .command("*1\r\n$4\r\nPING\r\n")
                .is_some_and(|pong| pong == b"+PONG\r\n")
            {
                return Some(server);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        url(self.port)
    }

    /// The beginning of what is answered to a command of the protocol.
    fn command(&mut self, command: &str) -> Option<Vec<u8>> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()?;
        stream.write_all(command.as_bytes()).ok()?;
        let mut answer = vec![0; 1_024];
        let length = stream.read(&mut answer).ok()?;
        answer.truncate(length);
        Some(answer)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

pub fn url(port: u16) -> String {
    format!("redis://127.0.0.1:{port}/")
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("bound").port()
}
