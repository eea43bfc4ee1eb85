//! The metrics, as Prometheus reads them.

use std::error::Error;
use std::net::Ipv4Addr;
use std::sync::OnceLock;

use axum::Router;
use axum::routing::get;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tenantry::TenantRegistry;
use tokio::net::TcpListener;

static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// Installs the recorder and serves `/metrics` on loopback.
pub async fn serve(registry: TenantRegistry) -> Result<String, Box<dyn Error>> {
    let handle = PrometheusBuilder::new().install_recorder()?;
    let _ = RECORDER.set(handle);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = format!("http://{}/metrics", listener.local_addr()?);
    let page = Router::new().route("/metrics", get(async move || text(&registry)));
    tokio::spawn(async move { axum::serve(listener, page).await });
    Ok(address)
}

pub fn text(registry: &TenantRegistry) -> String {
    registry.publish_metrics();
    RECORDER
        .get()
        .map_or_else(String::new, PrometheusHandle::render)
}
