//! The tenant in the path.

use proptest::prelude::*;
use tenantry::ResolveErrorKind::{Absent, Malformed};
use tenantry::{ErrorKind, PathResolver, RequestHead, ResolveErrorKind};

use crate::lenient;
use crate::request::*;

fn of(resolver: &PathResolver, path: &str) -> Result<String, ResolveErrorKind> {
    tenant(resolver, &RequestHead::new(None, path, &[]))
}

fn after(prefix: &str) -> PathResolver {
    PathResolver::after(prefix).expect("a prefix")
}

#[test]
fn the_segment_is_the_tenant() {
    let first = PathResolver::segment(0);
    for path in [
        "/acme",
        "/acme/",
        "/acme/invoices",
        "/acme/a%20b/c%2Fd",
        "/acme/100%",
        "/acme/%zz%2",
        "/acme/to/http%3A%2F%2Fx%2F%3Fq%3D%252520",
        "/acme/...",
    ] {
        assert_eq!(of(&first, path), ok("acme"), "{path}");
    }
    assert_eq!(
        of(&PathResolver::segment(2), "/v1/tenants/acme/x"),
        ok("acme")
    );
    assert_eq!(of(&after("/v1/tenants/"), "/v1/tenants/Acme"), ok("Acme"));
    assert_eq!(of(&first, "/a..b/x"), ok("a..b"));
}

#[test]
fn a_path_without_it_says_nothing() {
    assert_eq!(of(&PathResolver::segment(0), "/"), Err(Absent));
    assert_eq!(of(&PathResolver::segment(1), "/acme"), Err(Absent));
    assert_eq!(of(&PathResolver::segment(1), "/acme/"), Err(Absent));
    assert_eq!(of(&PathResolver::segment(usize::MAX), "/acme"), Err(Absent));
    let tenants = after("/tenants");
    for path in [
        "/",
        "/tenants",
        "/tenants/",
        "/tenantsx/acme",
        "/x/tenants/acme",
        "/Tenants/acme",
        "/health",
    ] {
        assert_eq!(of(&tenants, path), Err(Absent), "{path}");
    }
}

/// Each of these is `/globex`, or `/tenants/globex`, to somebody who reads it.
#[test]
fn a_path_that_others_read_otherwise_is_refused() {
    let (first, tenants) = (PathResolver::segment(0), after("/tenants"));
    for path in [
        "/acme/../globex",
        "/acme/./x",
        "/acme/..",
        "/./globex",
        "/../globex",
        "/acme/%2e%2e/globex",
        "/acme/%2E./globex",
        "/acme/.%2e/globex",
        "/acme/%252e%252e/globex",
        "/acme/%25252e%25252e/globex",
        "/acme/%2%65%2e/globex",
        "/acme/%%32%65%%32%65/globex",
        "/acme/..%2fglobex",
        "/acme/..%5cglobex",
        "/acme/x%2f..%2f..%2fglobex",
        "/acme/..\\globex",
        "/acme\\..\\globex",
        "/acme/..;/globex",
        "/acme/..;a=b/globex",
        "/acme/%2e%2e%3b/globex",
        "//globex",
        "//acme/globex",
        "/acme//globex",
        "///globex",
        "/%67lobex",
        "/globex%2Fx",
        "/globex%5Cx",
        "/globex\\x",
        "/%2fglobex",
        "/globex%00",
        "/globex%20",
        "/globex;v=1",
        "/glöbex",
    ] {
        assert_eq!(of(&first, path), Err(Malformed), "{path}");
        let below = format!("/tenants{path}");
        assert_eq!(of(&tenants, &below), Err(Malformed), "{below}");
        let second = PathResolver::segment(1);
        assert_eq!(of(&second, &below), Err(Malformed), "{below}");
    }
    for path in [
        "/%74enants/globex",
        "/tenants%2Fglobex",
        "/tenants%5Cglobex",
        "/tenants\\globex",
        "/%2Ftenants/globex",
        "/%2574enants/globex",
        "//tenants/globex",
        "/tenants//globex",
        "/x/../tenants/globex",
        "/x/%2e%2e/tenants/globex",
        "",
        "*",
        "tenants/globex",
        "http://host/tenants/globex",
    ] {
        assert_eq!(of(&tenants, path), Err(Malformed), "{path}");
    }
    // Encoded more often than anybody decodes.
    let deep = format!("/acme/%{}2e./globex", "25".repeat(5));
    assert_eq!(of(&first, &deep), Err(Malformed));
}

#[test]
fn a_prefix_is_a_path() {
    for bad in [
        "", "/", "tenants", "//", "/a//b", "/a/../b", "/.", "/%74", "/a b", "/a?b", "/{x}",
    ] {
        let error = PathResolver::after(bad).expect_err(bad);
        assert_eq!(error.kind(), ErrorKind::InvalidOption, "{bad}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn no_path_is_taken_for_another(path in odd("/t/acme/x", "/.%2eEfF5cC\\;aA\u{e9}"), index in 0_usize..3) {
        let by_index = of(&PathResolver::segment(index), &path);
        if let Ok(tenant) = &by_index {
            prop_assert_eq!(path.split('/').nth(index + 1), Some(&**tenant));
            prop_assert!(!path.contains("/../") && !path.contains("//"));
        }
        if let Ok(tenant) = of(&after("/t"), &path) {
            let behind = path.strip_prefix("/t/").and_then(|path| path.strip_prefix(&*tenant));
            prop_assert!(behind.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
        }
    }

    /// Nobody who decodes a path, resolves its dots and runs slashes together finds another tenant.
    #[test]
    fn nor_read_otherwise_by_others(path in odd("/t/acme/x", "/.%2eEfF5cC\\aA"), decodings in 0_usize..4) {
        for resolver in [PathResolver::segment(1), after("/t")] {
            if let Ok(tenant) = of(&resolver, &path) {
                let read = lenient::segments(&path, decodings);
                prop_assert_eq!(read.get(1), Some(&tenant), "{:?}", read);
            }
        }
    }

    #[test]
    fn nothing_makes_it_panic(path in ".*", index in any::<usize>()) {
        let _ = of(&PathResolver::segment(index), &path);
        let _ = PathResolver::after(&path).map(|resolver| of(&resolver, &path));
    }
}
