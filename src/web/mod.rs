//! Adapters for web services: who may come in, the transaction of a request, required permissions,
//! and what a client is told when it is refused.
//!
//! Features: `tower` for every service on tower, `axum` for its extractors as well, `actix` for
//! actix-web. The names are the same: one type is a layer for tower and a middleware for actix, an
//! extractor for axum and for actix, and what it promises is the same.
//!
//! * [`TenantLayer`] finds out whose data a request is for and puts a
//!   [`TenantScope`](crate::TenantScope) into it, or answers with a [`Rejection`].
//! * [`TransactionLayer`] gives it a transaction that is begun at its first use, committed before a
//!   success is told, and rolled back otherwise.
//! * [`RequirePermission`] lets only those through who may.
//! * [`Scope`], [`Tx`], [`LazyTx`] and [`Permitted`] are the arguments by which a handler gets at them.
//!
//! ```no_run
//! # #[cfg(feature = "axum")] mod example {
//! # use axum::{Router, routing::post};
//! # use tenantry::{TenantRegistry, TenantResolver};
//! use tenantry::web::{LazyTx, Rejection, TenantLayer, TransactionLayer};
//!
//! async fn add(tx: LazyTx, body: String) -> Result<(), Rejection> {
//!     let mut tx = tx.begin().await?; // now that the body is there
//!     sqlx::query("INSERT INTO notes (body) VALUES ($1)")
//!         .bind(body)
//!         .execute(&mut *tx)
//!         .await?;
//!     Ok(()) // committed, and then told
//! }
//!
//! fn router(registry: TenantRegistry, resolver: impl TenantResolver) -> Router {
//!     Router::new()
//!         .route("/notes", post(add))
//!         .layer(TransactionLayer::new())
//!         .layer(TenantLayer::new(registry, resolver))
//! }
//! # }
//! ```
//!
//! The same in actix, where the middleware that is named last is the outermost too:
//!
//! ```no_run
//! # #[cfg(feature = "actix")] mod example {
//! # use actix_web::{App, HttpResponse, HttpServer, web};
//! # use tenantry::web::{LazyTx, Rejection, TenantLayer, TransactionLayer};
//! async fn add(tx: LazyTx, body: String) -> Result<HttpResponse, Rejection> {
//!     let mut tx = tx.begin().await?;
//!     sqlx::query("INSERT INTO notes (body) VALUES ($1)")
//!         .bind(body)
//!         .execute(&mut *tx)
//!         .await?;
//!     Ok(HttpResponse::Created().finish())
//! }
//!
//! async fn serve(tenants: TenantLayer) -> std::io::Result<()> {
//!     let app = move || {
//!         App::new()
//!             .wrap(TransactionLayer::new())
//!             .wrap(tenants.clone())
//!             .route("/notes", web::post().to(add))
//!     };
//!     HttpServer::new(app)
//!         .h1_allow_half_closed(false)
//!         .bind(("127.0.0.1", 8080))?
//!         .run()
//!         .await
//! }
//! # }
//! ```
//!
//! # A client that hangs up
//!
//! hyper, and with it axum, drops the handler of a client that is gone; its transaction is rolled
//! back. actix-web lets the handler go on to its end, and so to the commit, unless the server is
//! told otherwise: `HttpServer::h1_allow_half_closed(false)`. That is for HTTP/1; over HTTP/2 actix
//! always goes on.
//!
//! # Connections
//!
//! A [`Tx`] holds a connection until the request is answered; a [`LazyTx`] from when it is begun. What a handler asks of its [`Scope`]
//! meanwhile takes another one, and waits for it where the tenant has no more.

#[cfg(feature = "actix")]
mod actix;
#[cfg(feature = "axum")]
mod axum;
mod permission;
mod rejection;
mod request;
mod tenant;
#[cfg(feature = "tower")]
mod tower;
mod transaction;

pub use permission::{PermissionService, Permitted, RequirePermission, RequiredPermission};
pub use rejection::Rejection;
pub use request::{LazyTx, Scope, Tx};
pub use tenant::{TenantLayer, TenantService};
pub use transaction::{TransactionLayer, TransactionService};
