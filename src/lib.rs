#![doc = include_str!("../README.md")]

mod argument;
mod assertion;
#[cfg(feature = "audit")]
pub mod audit;
mod authz;
mod context;
mod dangerous;
mod directory;
mod error;
mod job;
mod lease;
mod listen;
mod pooler;
mod preflight;
mod quote;
mod reader;
mod registry;
pub mod repository;
mod resolve;
mod scope;
mod secret;
mod series;
mod settings;
mod signing;
mod slots;
pub mod sql;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod statement;
mod sync;
mod tenant;
#[cfg(feature = "testing")]
pub mod testing;
mod trail;
mod tx;
#[cfg(any(feature = "tower", feature = "actix"))]
pub mod web;

pub use authz::{
    Authorizer, AuthorizerBuilder, AuthorizerStatus, Decision, Permission, PermissionPattern,
    RoleAdmin,
};
pub use context::TenantContext;
pub use dangerous::{DangerousRegistry, DangerousTx};
pub use directory::{
    Database, DirectoryChange, Placement, PostgresDirectory, PostgresDirectoryBuilder,
    StaticDirectory, TenantDirectory, TenantRecord, TenantState,
};
pub use error::{Error, ErrorKind};
pub use job::{Platform, PlatformJob, TenantJob};
pub use lease::{ConnectionBudget, PoolOptions};
pub use pooler::Pooler;
pub use reader::Reader;
pub use registry::{
    ConnectionCounts, EagerPools, ForEachError, ForEachReport, ForEachTenant, LazyPools,
    RegistryStatus, ServerStatus, ShutdownReport, Stopped, TenantRegistry, TenantRegistryBuilder,
    TenantStatus,
};
#[cfg(feature = "jwt")]
pub use resolve::jwt;
pub use resolve::{
    AgreesWith, HeaderFields, HeaderResolver, HostResolver, Or, PathResolver, RequestHead,
    ResolveError, ResolveErrorKind, TenantResolver,
};
pub use scope::TenantScope;
pub use secret::{Secret, SecretError, SecretResolver, SecretString};
pub use series::{NumberSeries, SeriesNumber, UniqueSeries};
pub use settings::ContextSettings;
pub use signing::SigningKey;
pub use slots::EvictionCause;
pub use tenant::TenantId;
pub use trail::{Trail, TrailEntry, TrailHead, TrailQuery, TrailRecord, TrailReport};
pub use tx::{
    CommitError, IsolationLevel, RetryPolicy, TenantCopyIn, TenantReadTx, TenantSavepoint,
    TenantTx, TxOptions,
};

#[cfg(test)]
#[path = "../tests/support/database.rs"]
mod database;

#[cfg(all(test, feature = "sqlite"))]
#[path = "../tests/support/folder.rs"]
mod folder;
