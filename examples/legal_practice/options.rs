//! The command line.

use sqlx::postgres::PgConnectOptions;

pub const HELP: &str = "\
usage: legal_practice [options]

  --framework NAME  what serves it: actix (the default) or axum; both answer alike
  --port N          where HTTP is served, on 127.0.0.1 (default 8080; 0 takes a free one)
  --database URL    a PostgreSQL on which the database and the role legal_practice are made, and
                    stay; without it a server is started that is gone when this is
  --redis URL       a Redis that keeps permissions, as redis://host:port; without it one is started
  --no-redis        permissions are kept in this process alone
  --help            this text";

pub struct Options {
    pub framework: Framework,
    pub port: u16,
    pub database: Option<PgConnectOptions>,
    pub redis: Redis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framework {
    Actix,
    Axum,
}

pub enum Redis {
    Own,
    At(String),
    None,
}

impl Options {
    /// `None` if the help was asked for, which has been printed.
    pub fn read() -> Result<Option<Self>, String> {
        let mut options = Self {
            framework: Framework::Actix,
            port: 8080,
            database: None,
            redis: Redis::Own,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_default();
            // None of these texts repeats the value: a URL may hold a password.
            match argument.as_str() {
                "--framework" => {
                    options.framework = match value().as_str() {
                        "actix" => Framework::Actix,
                        "axum" => Framework::Axum,
                        _ => return Err("--framework takes actix or axum".to_owned()),
                    };
                }
                "--port" => options.port = value().parse().map_err(|_| "--port takes a port")?,
                "--database" => {
                    let url = value().parse();
                    options.database =
                        Some(url.map_err(|_| "--database takes postgres://user:password@host/db")?);
                }
                "--redis" => match value() {
                    url if url.starts_with("redis://") => options.redis = Redis::At(url),
                    _ => return Err("--redis takes redis://host:port".to_owned()),
                },
                "--no-redis" => options.redis = Redis::None,
                "--help" | "-h" => {
                    println!("{HELP}");
                    return Ok(None);
                }
                _ => return Err("there is no such option".to_owned()),
            }
        }
        Ok(Some(options))
    }
}
