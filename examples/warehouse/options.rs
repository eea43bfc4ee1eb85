//! The command line.

use sqlx::postgres::PgConnectOptions;

pub const HELP: &str = "\
usage: warehouse [options]

  --tenants N       how many tenants there are, each with a database of its own (default 4)
  --port N          where HTTP is served, on 127.0.0.1 (default 8080; 0 takes a free one)
  --database URL    a server on which databases and a role called warehouse_* are made, and stay;
                    without it a server is started that is gone when this is
  --help            this text";

pub struct Options {
    pub tenants: usize,
    pub port: u16,
    pub database: Option<PgConnectOptions>,
}

impl Options {
    /// `None` if the help was asked for, which has been printed.
    pub fn read() -> Result<Option<Self>, String> {
        let mut options = Self {
            tenants: 4,
            port: 8080,
            database: None,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_default();
            // None of these texts repeats the value: a URL may hold a password.
            match argument.as_str() {
                "--tenants" => {
                    options.tenants = value().parse().map_err(|_| "--tenants takes a number")?;
                }
                "--port" => options.port = value().parse().map_err(|_| "--port takes a port")?,
                "--database" => {
                    let url = value().parse();
                    options.database =
                        Some(url.map_err(|_| "--database takes postgres://user:password@host/db")?);
                }
                "--help" | "-h" => {
                    println!("{HELP}");
                    return Ok(None);
                }
                _ => return Err("there is no such option".to_owned()),
            }
        }
        match options.tenants {
            1..=1000 => Ok(Some(options)),
            _ => Err("--tenants takes 1 to 1000".to_owned()),
        }
    }
}
