//! How a registry comes to be: every database is reached and looked at before the first request.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use sqlx::postgres::PgConnectOptions;

use super::TenantRegistry;
use crate::directory::{Placement, StaticDirectory};
use crate::error::{Error, ErrorKind};
use crate::lease::{Connections, PoolOptions};
use crate::preflight;
use crate::settings::ContextSettings;
use crate::slots::{Slot, Slots};
use crate::tenant::TenantId;

/// How many databases are looked at at a time.
const PARALLEL: usize = 8;

type PoolOptionsOf = dyn Fn(Option<&TenantId>, PoolOptions) -> PoolOptions + Send + Sync;

/// What a [`TenantRegistry`] is made from.
#[must_use = "a builder does nothing by itself, use `.build()`"]
pub struct TenantRegistryBuilder {
    directory: StaticDirectory,
    names: ContextSettings,
    pool_options: Box<PoolOptionsOf>,
}

impl TenantRegistryBuilder {
    pub(super) fn new(directory: StaticDirectory) -> Self {
        Self {
            directory,
            names: ContextSettings::default(),
            pool_options: Box::new(|_, options| options),
        }
    }

    /// The names of the settings that carry the context, if they are not `app.tenant_id` and
    /// `app.user_id`. They must be those that the databases were installed with.
    pub fn settings(mut self, names: ContextSettings) -> Self {
        self.names = names;
        self
    }

    /// The options of each pool: of a tenant's own database, or, with `None`, of the shared one.
    pub fn pool_options(
        mut self,
        options: impl Fn(Option<&TenantId>, PoolOptions) -> PoolOptions + Send + Sync + 'static,
    ) -> Self {
        self.pool_options = Box::new(options);
        self
    }

    /// Opens one connection to every database of the directory and checks what it finds there:
    ///
    /// * shared by tenants: the role neither bypasses row-level security nor can become one that
    ///   does, owns no table under it and may not create temporary tables;
    /// * a tenant's own: the database knows that it is this tenant's;
    /// * both: what this release needs is installed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Preflight`], [`ErrorKind::Installation`], [`ErrorKind::Misrouted`],
    /// [`ErrorKind::Connect`], [`ErrorKind::InvalidOption`]; the first one that was met.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the connections that were opened are closed.
    pub async fn build(self) -> Result<TenantRegistry, Error> {
        let (records, others) = self.directory.snapshot();
        let others_share = others.is_some();
        let database = others.or_else(|| {
            records
                .iter()
                .find_map(|(_, record)| match record.placement() {
                    Placement::Shared { database } => Some(database.clone()),
                    _ => None,
                })
        });
        let shared = match database {
            Some(database) => Some(self.shared(&database.connect_options().await?).await?),
            None => None,
        };
        let mut tenants = HashMap::with_capacity(records.len());
        let mut opened = stream::iter(&records)
            .map(async |(tenant, record)| {
                let slot = match record.placement() {
                    Placement::Database { database } => {
                        let options = database.connect_options().await?;
                        Slot::Own(self.database(tenant, &options).await?)
                    }
                    _ => Slot::Shared,
                };
                Ok::<_, Error>((tenant.clone(), slot))
            })
            .buffer_unordered(PARALLEL);
        while let Some(slot) = opened.next().await {
            let (tenant, slot) = slot?;
            tenants.insert(tenant, slot);
        }
        drop(opened);
        Ok(TenantRegistry {
            slots: Arc::new(Slots::new(shared, tenants, others_share)),
            names: Arc::new(self.names),
        })
    }

    async fn shared(&self, options: &PgConnectOptions) -> Result<Connections, Error> {
        let connections = self.connections(None, options)?;
        let mut lease = connections.lease().await?;
        lease.begins_statement();
        let connection = lease.connection()?;
        if connection.tenant().is_some() {
            return Err(Error::new(
                ErrorKind::Misrouted,
                "the shared database was installed as the database of one tenant",
            ));
        }
        preflight::check_role(connection.raw()).await?;
        lease.finished();
        Ok(connections)
    }

    async fn database(
        &self,
        tenant: &TenantId,
        options: &PgConnectOptions,
    ) -> Result<Connections, Error> {
        let connections = self.connections(Some(tenant), options)?;
        let mut lease = connections.lease().await?;
        let connection = lease.connection()?;
        connection.belongs_to(tenant)?;
        if connection.tenant().is_none() {
            return Err(Error::new(
                ErrorKind::Installation,
                format!(
                    "the database of tenant {tenant} does not know whose it is: \
                     run tenantry::sql::Installation::install on it with database_of"
                ),
            ));
        }
        Ok(connections)
    }

    fn connections(
        &self,
        tenant: Option<&TenantId>,
        options: &PgConnectOptions,
    ) -> Result<Connections, Error> {
        let pool = (self.pool_options)(tenant, PoolOptions::default());
        Connections::new(options.clone(), self.names.clone(), pool)
    }
}

impl fmt::Debug for TenantRegistryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantRegistryBuilder")
            .field("directory", &self.directory)
            .field("settings", &self.names)
            .finish_non_exhaustive()
    }
}
