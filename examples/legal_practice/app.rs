//! The service as it runs, in either framework, until it is told to stop.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use tenantry::{Authorizer, ConnectionBudget, StaticDirectory, TenantRegistry};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::Failure;
use crate::api;
use crate::cases::PgCases;
use crate::database::ORGANISATIONS;
use crate::members;
use crate::options::Framework;
use crate::practice::Practice;
use crate::tokens::Tokens;

pub struct App {
    practice: Practice,
    stop: oneshot::Sender<()>,
    http: JoinHandle<std::io::Result<()>>,
}

/// The pieces that know nothing of HTTP. `database` is reached as the role of the service.
pub async fn practice(
    database: PgConnectOptions,
    redis: Option<&str>,
) -> Result<Practice, Failure> {
    let organisations = ORGANISATIONS.iter().map(|id| id.parse());
    let organisations = organisations.collect::<Result<Vec<_>, _>>()?;
    let directory = StaticDirectory::new().shared(database.clone(), organisations.clone());
    let registry = TenantRegistry::builder(directory)
        .budget(ConnectionBudget::per_server(CONNECTIONS))
        .pool_options(|_, options| options.max_connections(CONNECTIONS as u32))
        .build()
        .await?;
    for organisation in &organisations {
        members::found(&registry.scope(organisation.clone()).await?).await?;
    }
    let mut authorizer = Authorizer::builder().subscription(database);
    if let Some(redis) = redis {
        authorizer = authorizer.redis(redis);
    }
    Ok(Practice {
        registry,
        authorizer: authorizer.build().await?,
        tokens: Arc::new(Tokens::new()?),
        cases: Arc::new(PgCases),
    })
}

/// As many as two cores have a use for; and one that listens for changes of roles.
const CONNECTIONS: usize = 16;

impl App {
    /// Takes requests on `listener`.
    pub fn start(
        framework: Framework,
        listener: TcpListener,
        practice: Practice,
    ) -> Result<Self, Failure> {
        let resolver = practice.tokens.resolver()?;
        let (stop, stopped) = oneshot::channel();
        let http = match framework {
            Framework::Actix => {
                let server = api::actix::serve(listener, practice.clone(), resolver)?;
                let handle = server.handle();
                tokio::spawn(async move {
                    let _ = stopped.await;
                    handle.stop(true).await;
                });
                tokio::spawn(server)
            }
            Framework::Axum => {
                listener.set_nonblocking(true)?;
                let listener = tokio::net::TcpListener::from_std(listener)?;
                let router = api::axum::router(practice.clone(), resolver);
                let server = axum::serve(listener, router).with_graceful_shutdown(async move {
                    let _ = stopped.await;
                });
                tokio::spawn(server.into_future())
            }
        };
        Ok(Self {
            practice,
            stop,
            http,
        })
    }

    /// Takes no more requests, brings to an end what is under way, and closes the connections.
    pub async fn stop(mut self) -> Result<(), Failure> {
        // An error means that it has ended by itself, which is told below.
        let _ = self.stop.send(());
        let finished = tokio::time::timeout(PATIENCE, &mut self.http).await;
        self.http.abort();
        let end = self.practice.registry.shutdown(PATIENCE).await;
        if !end.is_clean() {
            eprintln!("still busy: {:?}", end.still_busy);
        }
        match finished {
            Ok(http) => Ok(http??),
            Err(_) => Err("some requests took too long and were broken off".into()),
        }
    }
}

/// How long requests may take when the service is told to stop.
const PATIENCE: Duration = Duration::from_secs(10);
