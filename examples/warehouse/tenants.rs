//! Which tenant a request is for: by its host, `acme.localhost:8080`, or by the header `x-tenant`.
//!
//! An example believes what the request says. A service that faces users takes the tenant from a
//! verified token, or checks that the user belongs to it.

use axum::http::{HeaderMap, HeaderValue, Uri, header};
use tenantry::TenantId;

use crate::problem::Problem;

/// The hosts of tenants lie beneath this one.
pub const DOMAIN: &str = "localhost";

pub const HEADER: &str = "x-tenant";

/// All that a request says about its tenant has to agree.
pub fn named_by(uri: &Uri, headers: &HeaderMap) -> Result<TenantId, Problem> {
    let hosts = headers.get_all(header::HOST).iter();
    let hosts = hosts.map(text).chain(uri.host().map(Ok));
    let by_host = hosts.filter_map(|host| match host {
        Ok(host) => subdomain(host).map(Ok),
        Err(problem) => Some(Err(problem)),
    });
    let by_header = headers.get_all(HEADER).iter();
    let by_header = by_header.map(|name| text(name).map(str::to_owned));
    let mut tenant: Option<TenantId> = None;
    for name in by_host.chain(by_header) {
        let named = TenantId::try_from(name?)?;
        match &tenant {
            Some(tenant) if *tenant != named => return Err(Problem::TENANTS_DISAGREE),
            _ => tenant = Some(named),
        }
    }
    tenant.ok_or(Problem::NO_TENANT)
}

fn text(value: &HeaderValue) -> Result<&str, Problem> {
    value.to_str().map_err(|_| Problem::BAD_TENANT)
}

/// Upper and lower case are the same in a host. Another domain, and an address, names no tenant.
fn subdomain(host: &str) -> Option<String> {
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    Some(host.strip_suffix(DOMAIN)?.strip_suffix('.')?.to_owned())
}
