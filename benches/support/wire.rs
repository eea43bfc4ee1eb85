//! A longer wire to the server.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;

/// Forwards TCP and adds latency in each direction.
///
/// With threads and not with tokio, whose timer counts whole milliseconds.
pub struct Wire {
    port: u16,
}

impl Wire {
    /// Runs until the process ends.
    pub fn start(server: &PgConnectOptions, latency: Duration) -> Self {
        let target = (server.get_host().to_owned(), server.get_port());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect((&*target.0, target.1)) else {
                    continue;
                };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    to.set_nodelay(true).expect("an option of TCP");
                    let (from, to) = (from.try_clone(), to.try_clone());
                    let (from, to) = (from.expect("a handle"), to.expect("a handle"));
                    thread::spawn(move || forward(from, to, latency));
                }
            }
        });
        Self { port }
    }

    /// The same server and role, through this wire.
    pub fn before(&self, options: &PgConnectOptions) -> PgConnectOptions {
        options.clone().host("127.0.0.1").port(self.port)
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, latency: Duration) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        #[expect(
            clippy::disallowed_methods,
            reason = "the thread is there for nothing but this pause"
        )]
        thread::sleep(latency);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
