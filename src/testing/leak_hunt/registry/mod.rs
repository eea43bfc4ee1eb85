//! A registry as what is hunted in.

mod careless;
mod reading;
mod transactions;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{FutureExt as _, TryStreamExt as _};
use sqlx::{Executor as _, Statement as _};
use tokio::time::{Instant, sleep};

use super::subject::Subject;
use super::turn::Turn;
use crate::context::TenantContext;
use crate::error::{Error, ErrorKind};
use crate::job::TenantJob;
use crate::registry::TenantRegistry;
use crate::scope::TenantScope;
use reading::Statements;

/// A registry, used in every way that there is, on the tables of [`Canaries`](super::Canaries):
/// single statements, streams that are left half-way, prepared statements, jobs, transactions of all
/// kinds with every end, and code that changes settings of the session for others to find.
///
/// Tenants have a user. What of the context a statement sees in the database is looked at as rows
/// are, and each answer holds the text of its question.
///
/// Code that is careless on purpose takes errors in its stride: an operation counts as done if what
/// had to be refused was refused.
#[derive(Debug)]
pub struct RegistrySubject {
    registry: TenantRegistry,
    statements: Arc<Statements>,
    operations: Vec<&'static str>,
}

impl RegistrySubject {
    /// Over the tenants and databases of this registry.
    pub fn new(registry: &TenantRegistry) -> Self {
        Self {
            registry: registry.clone(),
            statements: Arc::new(Statements::new(registry.settings())),
            operations: OPERATIONS.to_vec(),
        }
    }

    /// Only these operations, of those that [`operations`](Subject::operations) tells: to have more of
    /// them in the same time.
    ///
    /// # Panics
    ///
    /// If one is not among them.
    #[must_use]
    pub fn only(mut self, operations: &[&str]) -> Self {
        for chosen in operations {
            assert!(
                OPERATIONS.contains(chosen),
                "no operation is called {chosen:?}; there are {OPERATIONS:?}"
            );
        }
        self.operations
            .retain(|operation| operations.contains(operation));
        self
    }

    fn context(turn: &Turn) -> TenantContext {
        let tenant = turn.tenant().clone();
        let user = format!("{tenant}/a user");
        TenantContext::new(tenant).user(user)
    }
}

/// Half of all is what most of a service does.
const OPERATIONS: [&str; 21] = [
    "statement",
    "statement",
    "statement",
    "write",
    "write",
    "stream",
    "prepared",
    "job",
    "commit",
    "commit",
    "rollback",
    "abandoned",
    "read only",
    "savepoints",
    "raw text",
    "aborted",
    "retried",
    "time-out in the server",
    "careless",
    "copy",
    "hatch",
];

#[async_trait]
impl Subject for RegistrySubject {
    fn operations(&self) -> &[&'static str] {
        &self.operations
    }

    async fn work(&self, turn: Turn) -> Result<(), Error> {
        let scope = self.registry.scope(Self::context(&turn)).await?;
        let (work, turn) = (
            Work {
                scope,
                statements: &self.statements,
            },
            &turn,
        );
        match turn.operation() {
            "statement" => work.statement(turn).await,
            "write" => work.write(turn).await,
            "stream" => work.stream(turn).await,
            "prepared" => work.prepared(turn).await,
            "job" => self.job(turn).await,
            "commit" => work.commit(turn).await,
            "rollback" => work.rollback(turn).await,
            "abandoned" => work.abandoned(turn).await,
            "read only" => work.read_only(turn).await,
            "savepoints" => work.savepoints(turn).await,
            "raw text" => work.raw_text(turn).await,
            "aborted" => work.aborted(turn).await,
            "retried" => work.retried(turn).await,
            "time-out in the server" => work.time_out(turn).await,
            "careless" => work.careless(turn).await,
            "copy" => work.copy(turn).await,
            "hatch" => work.hatch(turn).await,
            _ => Ok(()),
        }
    }

    async fn at_rest(&self, patience: Duration) -> Result<(), String> {
        let deadline = Instant::now() + patience;
        loop {
            let connections = self.registry.status().connections;
            if connections.in_use == 0 && connections.waiting == 0 {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(format!(
                    "{} connections are in use and {} are waited for, and nobody is at work",
                    connections.in_use, connections.waiting
                ));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl RegistrySubject {
    /// Through a queue.
    async fn job(&self, turn: &Turn) -> Result<(), Error> {
        let job = TenantJob::new(Self::context(turn), turn.random());
        let queued = serde_json::to_string(&job).map_err(queue)?;
        let read: TenantJob<u64> = serde_json::from_str(&queued).map_err(queue)?;
        let (scope, _) = read.bind(&self.registry).await?;
        let work = Work {
            scope,
            statements: &self.statements,
        };
        work.write(turn).await?;
        work.statement(turn).await
    }
}

fn queue(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::Other, "the job could not be queued").with_source(error)
}

/// One turn's work.
struct Work<'w> {
    scope: TenantScope,
    statements: &'w Arc<Statements>,
}

/// In autocommit.
impl Work<'_> {
    async fn statement(&self, turn: &Turn) -> Result<(), Error> {
        self.statements.look(turn, &self.scope).await
    }

    async fn write(&self, turn: &Turn) -> Result<(), Error> {
        self.statements.write(turn, &self.scope).await?;
        turn.wrote();
        Ok(())
    }

    /// Left after some of its rows, or read to its end.
    async fn stream(&self, turn: &Turn) -> Result<(), Error> {
        let mut rows = self.statements.many(turn).fetch(&self.scope);
        for _ in 0..turn.random() % 250 {
            match rows.try_next().await? {
                Some(seen) => Statements::see(turn, &seen),
                None => break,
            }
        }
        Ok(())
    }

    async fn prepared(&self, turn: &Turn) -> Result<(), Error> {
        let prepared = (&self.scope).prepare(self.statements.reading()).await?;
        let rows = prepared.query_as().bind(turn.canary());
        let rows = rows.fetch_all(&self.scope).boxed().await?;
        Statements::see_all(turn, &rows);
        Ok(())
    }
}
