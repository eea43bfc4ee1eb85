//! What is hunted in.

use std::time::Duration;

use async_trait::async_trait;

use super::turn::Turn;
use crate::error::Error;

/// Anything that does a tenant's work.
///
/// A closure `Fn(Turn) -> impl Future<Output = Result<(), impl Into<tenantry::Error>>>` is one that
/// knows the two operations `"write"` and `"read"`:
///
/// ```
/// use sqlx::PgPool;
/// use tenantry::testing::leak_hunt::{self, Subject};
///
/// /// A service over one pool, with the tenant in a setting of the session: never do this.
/// fn subject(pool: PgPool) -> impl Subject {
///     leak_hunt::subject(move |turn| {
///         let pool = pool.clone();
///         async move {
///             sqlx::query("SELECT set_config('app.tenant_id', $1, false)")
///                 .bind(turn.tenant().as_str())
///                 .execute(&pool)
///                 .await?;
///             if turn.operation() == "write" {
///                 sqlx::query("INSERT INTO notes (body) VALUES ($1)")
///                     .bind(turn.canary())
///                     .execute(&pool)
///                     .await?;
///                 turn.wrote();
///             } else {
///                 let rows: Vec<String> = sqlx::query_scalar("SELECT body FROM notes")
///                     .fetch_all(&pool)
///                     .await?;
///                 turn.saw_all(&rows);
///             }
///             Ok::<_, sqlx::Error>(())
///         }
///     })
/// }
/// ```
#[async_trait]
pub trait Subject: Send + Sync + 'static {
    /// The names of what it can be asked to do; each turn is one of them, all as often. `"write"` and
    /// `"read"` unless it is said otherwise.
    fn operations(&self) -> &[&'static str] {
        &["write", "read"]
    }

    /// Does a tenant's work, and tells the turn what it saw and wrote.
    ///
    /// It is dropped at random places, as requests are.
    ///
    /// # Errors
    ///
    /// Whatever may go wrong while servers restart and tenants are suspended: errors are counted by
    /// kind. In the last round, when nobody disturbs any more, one that stays is a finding.
    async fn work(&self, turn: Turn) -> Result<(), Error>;

    /// When all is over: waits until what was abandoned is in order again, for at most so long, and
    /// says what is not. `Ok` unless it is said otherwise.
    ///
    /// # Errors
    ///
    /// What holds a connection, say; it is shown in the report.
    async fn at_rest(&self, patience: Duration) -> Result<(), String> {
        let _ = patience;
        Ok(())
    }
}

/// Makes a [`Subject`] of a closure.
pub fn subject<F, W, E>(work: F) -> impl Subject
where
    F: Fn(Turn) -> W + Send + Sync + 'static,
    W: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<Error> + 'static,
{
    Closure(work)
}

struct Closure<F>(F);

#[async_trait]
impl<F, W, E> Subject for Closure<F>
where
    F: Fn(Turn) -> W + Send + Sync + 'static,
    W: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<Error> + 'static,
{
    async fn work(&self, turn: Turn) -> Result<(), Error> {
        (self.0)(turn).await.map_err(Into::into)
    }
}
