//! A pooler that refuses start-up options in words of its own, as that of Amazon RDS does: not as a
//! violation of the protocol, as PgBouncer, but as a feature that it has not.

use std::net::Ipv4Addr;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// Ends with the listener; what is connected ends with its client.
pub(crate) struct Refusing {
    port: u16,
    listener: AbortHandle,
}

impl Refusing {
    pub(crate) async fn start(server: &PgConnectOptions) -> Self {
        let target = (server.get_host().to_owned(), server.get_port());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let listener = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let target = target.clone();
                tokio::spawn(async move { serve(client, target).await.ok() });
            }
        });
        Self {
            port,
            listener: listener.abort_handle(),
        }
    }

    /// The same server and role, through this.
    pub(crate) fn before(&self, options: &PgConnectOptions) -> PgConnectOptions {
        let options = options.clone().host("127.0.0.1").port(self.port);
        options.ssl_mode(PgSslMode::Disable)
    }
}

impl Drop for Refusing {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

async fn serve(mut client: TcpStream, server: (String, u16)) -> std::io::Result<()> {
    let length = client.read_u32().await?;
    let mut packet = length.to_be_bytes().to_vec();
    packet.resize(length as usize, 0);
    client.read_exact(&mut packet[4..]).await?;
    let options: &[u8] = b"\0options\0";
    if packet.windows(options.len()).any(|part| part == options) {
        let fields = b"SFATAL\0VFATAL\0C0A000\0MFeature not supported: command-line options\0\0";
        client.write_u8(b'E').await?;
        client.write_u32(4 + fields.len() as u32).await?;
        return client.write_all(fields).await;
    }
    let mut server = TcpStream::connect(server).await?;
    server.write_all(&packet).await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
