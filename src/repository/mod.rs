//! Traits for repositories of your own: what reads takes a [`Reader`], what writes takes a
//! `&mut` [`TenantTx`], so that none of it can be called without saying whose data it is for.
//!
//! A repository is plain sqlx. It holds no connection and no tenant, so one serves all, as an
//! `Arc<dyn ..>` where that is wanted. What goes into one transaction is what is given the same
//! `tx`: several repositories make a unit of work without knowing of each other.
//!
//! ```
//! use async_trait::async_trait;
//! use futures_core::stream::BoxStream;
//! use tenantry::repository::{
//!     Page, PageRequest, Pager, ReadRepository, WriteRepository, missed, stream_rows,
//! };
//! use tenantry::{Error, Reader, TenantTx};
//!
//! #[derive(Clone, sqlx::FromRow)]
//! struct Client {
//!     id: i64,
//!     name: String,
//!     version: i64,
//! }
//!
//! struct Clients;
//!
//! #[async_trait]
//! impl ReadRepository for Clients {
//!     type Id = i64;
//!     type Row = Client;
//!
//!     async fn find(&self, mut reader: Reader<'_>, id: &i64) -> Result<Option<Client>, Error> {
//!         let client = sqlx::query_as("SELECT id, name, version FROM clients WHERE id = $1");
//!         Ok(client.bind(id).fetch_optional(&mut reader).await?)
//!     }
//!
//!     async fn page(
//!         &self,
//!         mut reader: Reader<'_>,
//!         request: &PageRequest,
//!     ) -> Result<Page<Client>, Error> {
//!         let pager = Pager::<(String, i64)>::new(reader.context(), "clients by name", request)?;
//!         let clients = match pager.after() {
//!             None => sqlx::query_as(FIRST),
//!             Some((name, id)) => sqlx::query_as(LATER).bind(name).bind(id),
//!         };
//!         let clients = clients.bind(pager.fetch()).fetch_all(&mut reader).await?;
//!         pager.page(clients, |client: &Client| (client.name.clone(), client.id))
//!     }
//!
//!     fn stream<'r>(&'r self, reader: Reader<'r>) -> BoxStream<'r, Result<Client, Error>> {
//!         stream_rows(reader, sqlx::query_as("SELECT id, name, version FROM clients"))
//!     }
//! }
//!
//! const FIRST: &str =
//!     "SELECT id, name, version FROM clients ORDER BY name, id LIMIT $1";
//! const LATER: &str =
//!     "SELECT id, name, version FROM clients WHERE (name, id) > ($1, $2) ORDER BY name, id LIMIT $3";
//!
//! #[async_trait]
//! impl WriteRepository for Clients {
//!     type Draft = String;
//!
//!     async fn insert(&self, tx: &mut TenantTx, name: &String) -> Result<Client, Error> {
//!         let insert = sqlx::query_as(
//!             "INSERT INTO clients (name) VALUES ($1) RETURNING id, name, version",
//!         );
//!         Ok(insert.bind(name).fetch_one(tx).await?)
//!     }
//!
//!     async fn insert_many(&self, tx: &mut TenantTx, names: &[String]) -> Result<u64, Error> {
//!         let insert = sqlx::query("INSERT INTO clients (name) SELECT * FROM unnest($1::text[])");
//!         Ok(insert.bind(names).execute(tx).await?.rows_affected())
//!     }
//!
//!     async fn update(&self, tx: &mut TenantTx, client: &Client) -> Result<Client, Error> {
//!         let update = sqlx::query_as(
//!             "UPDATE clients SET name = $3, version = version + 1 \
//!              WHERE id = $1 AND version = $2 RETURNING id, name, version",
//!         );
//!         let update = update.bind(client.id).bind(client.version).bind(&client.name);
//!         match update.fetch_optional(&mut *tx).await? {
//!             Some(client) => Ok(client),
//!             None => Err(missed(self, tx, &client.id).await),
//!         }
//!     }
//!
//!     async fn upsert(&self, tx: &mut TenantTx, name: &String) -> Result<Client, Error> {
//!         let upsert = sqlx::query_as(
//!             "INSERT INTO clients AS c (name) VALUES ($1) \
//!              ON CONFLICT (tenant_id, name) DO UPDATE SET version = c.version + 1 \
//!              RETURNING id, name, version",
//!         );
//!         Ok(upsert.bind(name).fetch_one(tx).await?)
//!     }
//!
//!     async fn delete(&self, tx: &mut TenantTx, id: &i64, version: i64) -> Result<(), Error> {
//!         let delete = sqlx::query("DELETE FROM clients WHERE id = $1 AND version = $2");
//!         let done = delete.bind(id).bind(version).execute(&mut *tx).await?;
//!         match done.rows_affected() {
//!             0 => Err(missed(self, tx, id).await),
//!             _ => Ok(()),
//!         }
//!     }
//! }
//! ```
//!
//! # Without a server
//!
//! With the feature `testing` a service is put through unit tests with a
//! `tenantry::testing::MemoryRepository` in the place of its repositories, and with the very
//! scopes and transactions that it takes elsewhere: `tenantry::testing::detached_scope` makes a
//! [`TenantScope`](crate::TenantScope) that leads to no database. And
//! `tenantry::testing::conformance` puts any implementation of these traits to the test: that it
//! keeps tenants apart, method by method, and that pages, versions and errors are as they are
//! said to be here.

mod cursor;
mod page;
mod pager;
mod read;
mod version;
mod write;

#[cfg(doc)]
use crate::{reader::Reader, tx::TenantTx};

pub use cursor::Cursor;
pub use page::{Direction, Page, PageRequest};
pub use pager::Pager;
pub use read::{ReadRepository, stream_rows};
pub use version::{Versioned, missed};
pub use write::WriteRepository;
#[cfg(feature = "testing")]
pub(crate) use {read::not_found, version::stale};
