//! A sealed database of the tenants `a` and `b`, and how contexts for it are made by hand.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgConnectOptions, PgTypeInfo};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Encode, Executor as _, PgConnection, Postgres, Type,
};
use tenantry::sql::{Installation, TenantType};
use tenantry::{
    ContextSettings, Error, ErrorKind, Secret, SecretError, SecretResolver, SecretString,
    SigningKey, StaticDirectory, TenantContext, TenantRegistry, TenantRegistryBuilder, TenantScope,
};

use crate::support::{World, tenant, world_with};

/// Its secrets are made of their names.
pub(crate) struct Vault;

#[async_trait]
impl SecretResolver for Vault {
    async fn resolve(&self, reference: &str) -> Result<SecretString, SecretError> {
        Ok(format!("the secret of {reference}, which has 32 bytes").into())
    }
}

/// The key of this id, with a secret of its own.
pub(crate) fn key(id: &str) -> SigningKey {
    key_of(id, id)
}

pub(crate) fn key_of(id: &str, secret: &str) -> SigningKey {
    SigningKey::new(id, Secret::resolver(Arc::new(Vault), secret)).expect("a key")
}

pub(crate) fn plain() -> Installation {
    Installation::new("app")
        .tenant_column("tenant_id", TenantType::Text)
        .settings(settings())
}

pub(crate) fn settings() -> ContextSettings {
    ContextSettings::default().with("app.role").expect("a name")
}

/// Sealed, with the key `k1`.
pub(crate) async fn sealed_world() -> World {
    let world = world_with(plain().sealed(), &["a", "b"]).await;
    let mut admin = world.admin().await;
    Installation::add_signing_key(&mut admin, &key("k1"))
        .await
        .expect("a key");
    world
}

pub(crate) async fn plain_world() -> World {
    world_with(plain(), &["a", "b"]).await
}

pub(crate) fn builder(app: PgConnectOptions) -> TenantRegistryBuilder {
    TenantRegistry::builder(StaticDirectory::new().shared_by_all(app))
        .settings(settings())
        .pool_options(|_, defaults| defaults.max_connections(1))
}

/// With one connection, so that whoever comes next gets what the last one left. It signs with `k1`.
pub(crate) async fn registry(world: &World) -> TenantRegistry {
    let builder = builder(world.app.clone()).signing_key(key("k1"));
    builder.build().await.expect("a registry")
}

/// The same that does not sign.
pub(crate) async fn plain_registry(world: &World) -> TenantRegistry {
    builder(world.app.clone())
        .build()
        .await
        .expect("a registry")
}

pub(crate) async fn scope(registry: &TenantRegistry, id: &str) -> TenantScope {
    let context = TenantContext::new(tenant(id))
        .user(format!("user of {id}"))
        .setting("app.role", "clerk");
    registry.scope(context).await.expect("a scope")
}

/// As the role of the application, past the crate.
pub(crate) async fn intruder(world: &World) -> PgConnection {
    let options = world.app.clone().disable_statement_logging();
    options.connect().await.expect("the application connects")
}

pub(crate) fn kind(error: sqlx::Error) -> ErrorKind {
    Error::from(error).kind()
}

/// A value of the domain `tenantry.scope`.
#[derive(Clone, Debug)]
pub(crate) struct Context(pub(crate) Vec<String>);

impl Context {
    pub(crate) fn of(elements: &[&str]) -> Self {
        Self(
            elements
                .iter()
                .map(|element| (*element).to_owned())
                .collect(),
        )
    }

    /// The same with another element.
    pub(crate) fn with(mut self, number: usize, element: &str) -> Self {
        element.clone_into(&mut self.0[number]);
        self
    }
}

impl Type<Postgres> for Context {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("tenantry.scope")
    }
}

impl Encode<'_, Postgres> for Context {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        for number in [1, 0, 25, self.0.len() as i32, 1] {
            buffer.extend_from_slice(&number.to_be_bytes());
        }
        for element in &self.0 {
            buffer.extend_from_slice(&(element.len() as i32).to_be_bytes());
            buffer.extend_from_slice(element.as_bytes());
        }
        Ok(IsNull::No)
    }
}

/// A context that was signed with a key of the database, as a process would.
pub(crate) async fn signed(world: &World, id: &str, key: &str, seconds_left: i64) -> Context {
    let mut admin = world.admin().await;
    let elements = sqlx::query_scalar(
        "WITH it AS (SELECT ARRAY['sealed-1', $1, 'user of ' || $1, 'clerk', k.id, \
             (floor(extract(epoch FROM clock_timestamp()))::bigint + $3)::text] AS said, k.* \
           FROM tenantry.signing_keys AS k WHERE k.id = $2) \
         SELECT said || encode(sha256(outer_pad || sha256(inner_pad || array_send(said))), 'hex') FROM it",
    )
    .bind(id)
    .bind(key)
    .bind(seconds_left)
    .fetch_one(&mut admin)
    .await;
    Context(elements.expect("a signature"))
}

/// What a statement with this context sees.
pub(crate) async fn seen(
    connection: &mut PgConnection,
    context: Context,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT body FROM notes ORDER BY body")
        .bind(context)
        .fetch_all(connection)
        .await
}

/// As the superuser.
pub(crate) async fn run(world: &World, sql: &str) {
    let done = world.admin().await.execute(AssertSqlSafe(sql)).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
}
