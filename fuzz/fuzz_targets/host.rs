//! A host of any text: what is resolved is the label that was sent, in front of the whole domain.
#![no_main]

use futures_util::FutureExt as _;
use libfuzzer_sys::fuzz_target;
use tenantry::{HostResolver, RequestHead, TenantResolver as _};

fuzz_target!(|host: &str| {
    let resolver = HostResolver::subdomain_of("example.com").expect("a domain");
    let head = RequestHead::new(Some(host), "/", &[]);
    let answer = resolver.resolve(&head).now_or_never();
    if let Ok(context) = answer.expect("it does not wait") {
        let sent = host.to_ascii_lowercase();
        let (name, port) = sent.split_once(':').unwrap_or((&sent, "0"));
        let name = name.strip_suffix('.').unwrap_or(name);
        assert_eq!(name, format!("{}.example.com", context.tenant()));
        assert!(!context.tenant().as_str().contains('.'));
        assert!(port.parse::<u16>().is_ok());
    }
    let _ = HostResolver::subdomain_of(host);
});
