//! The tenant in front of a domain.

use proptest::prelude::*;
use tenantry::ResolveErrorKind::{Absent, Malformed};
use tenantry::{ErrorKind, HostResolver, RequestHead, ResolveErrorKind};

use crate::request::*;

fn resolver() -> HostResolver {
    HostResolver::subdomain_of("Example.COM").expect("a domain")
}

fn of(host: &str) -> Result<String, ResolveErrorKind> {
    tenant(&resolver(), &RequestHead::new(None, "/", &[("Host", host)]))
}

#[test]
fn the_label_in_front_of_the_domain_is_the_tenant() {
    for host in [
        "acme.example.com",
        "ACME.Example.com",
        "acme.example.com.",
        "acme.example.com:8443",
        "acme.example.com.:0",
        "aCmE.eXaMpLe.CoM.:65535",
    ] {
        assert_eq!(of(host), ok("acme"), "{host}");
    }
    assert_eq!(of("org_2b-x.example.com"), ok("org_2b-x"));
    assert_eq!(of("7.example.com"), ok("7"));
    let uuid = "0f0e0d0c-1122-3344-5566-77889900aabb";
    assert_eq!(of(&format!("{uuid}.example.com")), ok(uuid));
    // An internationalised name is what was sent, and nothing that it stands for.
    assert_eq!(of("xn--mnchen-3ya.example.com"), ok("xn--mnchen-3ya"));
}

#[test]
fn the_domain_itself_says_nothing() {
    for host in ["example.com", "EXAMPLE.com.", "example.com:80"] {
        assert_eq!(of(host), Err(Absent), "{host}");
    }
    let nothing = RequestHead::new(None, "/", &[]);
    assert_eq!(tenant(&resolver(), &nothing), Err(Absent));
}

#[test]
fn no_other_host_is_taken_for_ours() {
    for host in [
        "evilexample.com",
        "acme.evilexample.com",
        "acme-example.com",
        "acmeexample.com",
        "example.com.evil.test",
        "acme.example.com.evil.test",
        "acme.example.co",
        "acme.example",
        "acme",
        "com",
        "localhost",
        "example.comacme",
        "acme.example.com@evil.test",
    ] {
        assert_eq!(of(host), Err(Malformed), "{host}");
    }
}

#[test]
fn a_deeper_name_is_no_tenant() {
    for host in ["a.acme.example.com", "www.a.b.example.com"] {
        assert_eq!(of(host), Err(Malformed), "{host}");
    }
}

#[test]
fn what_is_no_host_name_is_refused() {
    let long = format!("{}.example.com", "a".repeat(64));
    let longer = format!("a.{}example.com", "b.".repeat(125));
    for host in [
        "",
        ".",
        "..",
        ".example.com",
        "acme..example.com",
        "acme.example.com..",
        "-acme.example.com",
        "acme-.example.com",
        "_acme.example.com",
        "acme .example.com",
        "acme.example.com ",
        "user@acme.example.com",
        "user:password@acme.example.com",
        "acme@example.com",
        "acme.example.com:",
        "acme.example.com:http",
        "acme.example.com:65536",
        "acme.example.com:000080",
        "acme.example.com:+80",
        "acme.example.com:-1",
        "acme.example.com:80:80",
        "acme.example.com/",
        "acme.example.com/path",
        "http://acme.example.com",
        "//acme.example.com",
        "acme%2eexample.com",
        "%61cme.example.com",
        "acme.example.com%00",
        "acme,globex.example.com",
        "acme.example.com,globex.example.com",
        "*.example.com",
        "127.0.0.1",
        "127.0.0.1:80",
        "[::1]",
        "[::1]:8080",
        "[::ffff:127.0.0.1]",
        "::1",
        "[v1.acme.example.com]",
        "[acme.example.com]",
        "[acme].example.com",
        &long,
        &longer,
    ] {
        assert_eq!(of(host), Err(Malformed), "{host}");
    }
}

#[test]
fn what_is_not_ascii_is_refused() {
    for host in [
        "münchen.example.com",
        "аcme.example.com",   // a Cyrillic a
        "acme。example。com", // ideographic full stops
        "acme.example.com\u{200b}",
        "ﬁ.example.com",
    ] {
        assert_eq!(of(host), Err(Malformed), "{host}");
        let head = RequestHead::new(Some(host), "/", &[]);
        assert_eq!(tenant(&resolver(), &head), Err(Malformed), "{host}");
    }
    let bytes = Raw(&[("host", b"acm\xe9.example.com")]);
    let head = RequestHead::new(None, "/", &bytes);
    assert_eq!(tenant(&resolver(), &head), Err(Malformed));
}

#[test]
fn the_target_and_the_field_name_one_host() {
    let of = |authority, fields: &[(&str, &str)]| {
        let fields: Vec<_> = fields.iter().map(|(n, v)| (*n, v.as_bytes())).collect();
        let raw = Raw(&fields);
        tenant(&resolver(), &RequestHead::new(authority, "/", &raw))
    };
    let target = Some("acme.example.com");
    assert_eq!(of(target, &[]), ok("acme"));
    assert_eq!(of(target, &[("host", "ACME.example.com")]), ok("acme"));
    for fields in [
        &[("host", "globex.example.com")][..],
        &[("host", "acme.example.com"), ("Host", "globex.example.com")],
        &[("host", "acme.example.com"), ("Host", "acme.example.com")],
    ] {
        assert_eq!(of(target, fields), Err(Malformed), "{fields:?}");
        let behind = &fields[fields.len() - 1..];
        assert_eq!(of(Some("globex.example.com:1"), behind), Err(Malformed));
    }
}

#[test]
fn a_domain_is_a_name() {
    for good in ["example.com", "example.com.", "localhost", "a-b.c1.test"] {
        HostResolver::subdomain_of(good).expect(good);
    }
    for bad in [
        "",
        ".",
        ".example.com",
        "*.example.com",
        "example..com",
        "https://example.com",
        "example.com:80",
        "example.com/",
        "127.0.0.1",
        "1",
        "[::1]",
        "münchen.test",
    ] {
        let error = HostResolver::subdomain_of(bad).expect_err(bad);
        assert_eq!(error.kind(), ErrorKind::InvalidOption, "{bad}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// Whatever gets through is what was sent, but for case, port and the last dot.
    #[test]
    fn no_host_is_taken_for_another(host in odd("acme.example.com", "aA.:@[]%-_1\u{e9}")) {
        if let Ok(tenant) = of(&host) {
            let sent = host.to_ascii_lowercase();
            let sent = sent.split(':').next().unwrap_or_default();
            let sent = sent.strip_suffix('.').unwrap_or(sent);
            prop_assert_eq!(format!("{tenant}.example.com"), sent);
            prop_assert!(!tenant.contains('.'));
        }
    }

    #[test]
    fn nothing_makes_it_panic(host in ".*", authority in proptest::option::of(".*")) {
        let fields = [("host", &*host)];
        let head = RequestHead::new(authority.as_deref(), "/", &fields);
        let _ = tenant(&resolver(), &head);
    }
}
