//! How a registry comes to be.

use std::fmt;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};

use super::TenantRegistry;
use super::config::{EagerPools, LazyPools};
use crate::directory::{Database, TenantDirectory};
use crate::error::{Error, ErrorKind};
use crate::lease::{ConnectionBudget, PoolOptions, Servers};
use crate::settings::ContextSettings;
use crate::signing::SigningKey;
use crate::slots::{PoolOptionsOf, Purpose, Slots, Test};
use crate::tenant::TenantId;

/// How many tenants are read from the directory at a time.
const PAGE: usize = 1_000;

/// How many failures the message of an error names.
const MOST_FAILURES: usize = 20;

/// What a [`TenantRegistry`] is made from.
#[must_use = "a builder does nothing by itself, use `.build()`"]
pub struct TenantRegistryBuilder {
    directory: Arc<dyn TenantDirectory>,
    names: ContextSettings,
    pool_options: PoolOptionsOf,
    opening: Opening,
    budget: Option<ConnectionBudget>,
    dangerous: Option<Database>,
    signing_key: Option<SigningKey>,
}

#[derive(Clone, Copy, Debug)]
enum Opening {
    Eager(EagerPools),
    Lazy(LazyPools),
}

impl TenantRegistryBuilder {
    pub(super) fn new(directory: Arc<dyn TenantDirectory>) -> Self {
        Self {
            directory,
            names: ContextSettings::default(),
            pool_options: Box::new(|_, options| options),
            opening: Opening::Eager(EagerPools::default()),
            budget: None,
            dangerous: None,
            signing_key: None,
        }
    }

    /// The names of the settings that carry the context, if they are not `app.tenant_id` and
    /// `app.user_id`. They must be those that the databases were installed with.
    pub fn settings(mut self, names: ContextSettings) -> Self {
        self.names = names;
        self
    }

    /// The options of each pool: of a tenant's own database, or, with `None`, of a shared one and
    /// that of [`dangerous`](Self::dangerous) access.
    pub fn pool_options(
        mut self,
        options: impl Fn(Option<&TenantId>, PoolOptions) -> PoolOptions + Send + Sync + 'static,
    ) -> Self {
        self.pool_options = Box::new(options);
        self
    }

    /// Opens every pool of the directory in [`build`](Self::build). This is the default.
    pub fn eager(mut self, pools: EagerPools) -> Self {
        self.opening = Opening::Eager(pools);
        self
    }

    /// Opens a pool when its tenant is met.
    pub fn lazy(mut self, pools: LazyPools) -> Self {
        self.opening = Opening::Lazy(pools);
        self
    }

    /// A cap on the connections to each server. Without one, each pool has its own.
    pub fn budget(mut self, budget: ConnectionBudget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Allows [`TenantRegistry::dangerous`], in this database and as the role of its own that is
    /// named with it. Default: there is none.
    ///
    /// The role is one that sees the rows of all tenants, such as one with `BYPASSRLS`, and no
    /// tenant's connection may be logged in as it: the first that is gets
    /// [`ErrorKind::Preflight`]. The database is prepared by
    /// [`DangerousAccess`](crate::sql::DangerousAccess). It is looked at when it is used and not in
    /// [`build`](Self::build), so that no such connection lies idle.
    ///
    /// It costs a pool, of [`LazyPools::max_pools`], while it is used, and its connections are part
    /// of the [`ConnectionBudget`].
    pub fn dangerous(mut self, database: impl Into<Database>) -> Self {
        self.dangerous = Some(database.into());
        self
    }

    /// Signs the context of each statement with this key, which sealed databases ask for: see
    /// [`Installation::sealed`](crate::sql::Installation::sealed). Default: none.
    ///
    /// All databases of tenants then have to take signed contexts, and know the key. Its secret is
    /// resolved once, in [`build`](Self::build).
    ///
    /// `begin` says no context then: the first statement with arguments does, and each one after
    /// it. Before that a [`TenantTx`](crate::TenantTx) takes statements of `sqlx::query` and the
    /// like, `SET LOCAL`, `SET CONSTRAINTS`, `LOCK` and `NOTIFY`, and refuses `raw_sql`, plain
    /// strings and other utility statements; COPY says the context itself.
    pub fn signing_key(mut self, key: SigningKey) -> Self {
        self.signing_key = Some(key);
        self
    }

    /// Builds it. Eager pools are opened, with one connection each; lazy ones later. Whenever a
    /// database is reached for the first time, it is looked at:
    ///
    /// * shared by tenants: the role neither bypasses row-level security nor can become one that
    ///   does, owns no table under it and may not create temporary tables;
    /// * a tenant's own: the database knows that it is this tenant's;
    /// * both: what this release needs is installed, and contexts are signed if the database is
    ///   sealed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`], and [`ErrorKind::Connect`] if the secret of the
    /// [`signing_key`](Self::signing_key) could not be had. For eager pools also [`ErrorKind::Directory`], and the first
    /// of [`ErrorKind::Preflight`], [`ErrorKind::Installation`], [`ErrorKind::Misrouted`] and
    /// [`ErrorKind::Connect`] that was met, unless
    /// [`EagerPools::start_degraded`] was asked for.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the connections that were opened are closed.
    pub async fn build(self) -> Result<TenantRegistry, Error> {
        let (max_pools, idle_timeout) = match self.opening {
            Opening::Eager(_) => (None, None),
            Opening::Lazy(lazy) => (Some(lazy.max_pools), lazy.idle_timeout),
        };
        if let Some(budget) = &self.budget {
            budget.check(max_pools)?;
        }
        let signer = match &self.signing_key {
            Some(key) => Some(Arc::new(key.signer().await?)),
            None => None,
        };
        let names = Arc::new(self.names);
        let servers = Servers::new(self.budget, Arc::clone(&names))?
            .with_dangerous(self.dangerous)
            .with_signatures(signer.is_some());
        let slots = Slots::new(
            self.directory,
            servers,
            self.pool_options,
            max_pools,
            idle_timeout,
        );
        // Given up, or failed, it takes what was opened with it.
        let mut registry = TenantRegistry::new(slots, names, signer);
        if let Opening::Eager(eager) = self.opening {
            registry.failed_at_start = open_all(&registry, eager).await?.into();
        }
        Ok(registry)
    }
}

/// Opens a connection to every database of the directory. Comes back with those that failed,
/// where that is allowed.
async fn open_all(
    registry: &TenantRegistry,
    eager: EagerPools,
) -> Result<Vec<(TenantId, Error)>, Error> {
    let slots = &registry.slots;
    let mut failed = Vec::new();
    let mut opened = 0_usize;
    // Tenants that are in nobody's list may share a database all the same.
    if let Some(database) = slots.directory().shared_by_others() {
        slots.open_shared(database).await?;
    }
    let mut after = None;
    loop {
        let page = slots.directory().list(after.as_ref(), PAGE).await?;
        let Some(last) = page.last().cloned() else {
            break;
        };
        let mut attempts = stream::iter(page)
            .map(async |tenant| {
                let attempt = slots.lease(&tenant, Purpose::Foreground, Test::Yes).await;
                (tenant, attempt.map(drop))
            })
            .buffer_unordered(eager.parallel);
        while let Some((tenant, attempt)) = attempts.next().await {
            match attempt {
                Ok(()) => opened += 1,
                // It was taken away while we came to it.
                Err(error) if !matters(&error) => {}
                Err(error) if eager.start_degraded => {
                    tracing::warn!(%tenant, kind = ?error.kind(), "the tenant's database could not be opened");
                    failed.push((tenant, error));
                }
                Err(error) => return Err(error),
            }
        }
        after = Some(last);
    }
    if opened == 0 && !failed.is_empty() {
        return Err(nothing_opened(failed));
    }
    Ok(failed)
}

fn matters(error: &Error) -> bool {
    !matches!(
        error.kind(),
        ErrorKind::TenantUnknown
            | ErrorKind::TenantSuspended
            | ErrorKind::TenantMoving
            | ErrorKind::TenantDeleted
    )
}

/// A registry that serves nobody is not degraded but broken.
fn nothing_opened(failed: Vec<(TenantId, Error)>) -> Error {
    let names: Vec<&str> = failed
        .iter()
        .take(MOST_FAILURES)
        .map(|(tenant, _)| tenant.as_str())
        .collect();
    let message = format!(
        "not one database of {} could be opened, among them those of {}",
        failed.len(),
        names.join(", ")
    );
    let first = failed.into_iter().next();
    match first {
        Some((_, error)) => Error::new(error.kind(), message).with_source(error),
        None => Error::new(ErrorKind::Connect, message),
    }
}

impl fmt::Debug for TenantRegistryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantRegistryBuilder")
            .field("settings", &self.names)
            .field("opening", &self.opening)
            .field("budget", &self.budget)
            .field("dangerous", &self.dangerous)
            .field("signing_key", &self.signing_key)
            .finish_non_exhaustive()
    }
}
