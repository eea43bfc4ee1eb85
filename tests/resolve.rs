//! From a request to a tenant: what a host, a path and a header field say, and what they must not be
//! taken to say. Tokens have a file of their own, `jwt.rs`.

use std::sync::Arc;

use async_trait::async_trait;
use proptest::prelude::*;
use tenantry::{
    ErrorKind, HeaderFields, HeaderResolver, HostResolver, PathResolver, RequestHead, ResolveError,
    ResolveErrorKind, TenantContext, TenantId, TenantResolver,
};

use ResolveErrorKind::{Absent, Disagreement, Malformed, TokenAbsent, TokenSignature};

/// What a resolver of ours answers: none of them waits for anything.
fn ask(
    resolver: &impl TenantResolver,
    request: &RequestHead<'_>,
) -> Result<TenantContext, ResolveErrorKind> {
    let answer = futures_util::FutureExt::now_or_never(resolver.resolve(request));
    answer
        .expect("no resolver waits")
        .map_err(|error| error.kind())
}

fn tenant(
    resolver: &impl TenantResolver,
    request: &RequestHead<'_>,
) -> Result<String, ResolveErrorKind> {
    ask(resolver, request).map(|context| context.tenant().to_string())
}

fn ok(tenant: &str) -> Result<String, ResolveErrorKind> {
    Ok(tenant.to_owned())
}

/// Fields with any bytes in them.
struct Raw<'r>(&'r [(&'r str, &'r [u8])]);

impl HeaderFields for Raw<'_> {
    fn each<'r>(&'r self, name: &str, each: &mut dyn FnMut(&'r [u8])) {
        for (field, value) in self.0 {
            if field.eq_ignore_ascii_case(name) {
                each(value);
            }
        }
    }
}

mod host {
    use super::*;

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
}

mod header {
    use super::*;

    fn resolver() -> HeaderResolver {
        HeaderResolver::new("X-Tenant-Id").expect("a name")
    }

    fn of(fields: &[(&str, &[u8])]) -> Result<String, ResolveErrorKind> {
        tenant(&resolver(), &RequestHead::new(None, "/", &Raw(fields)))
    }

    #[test]
    fn the_whole_value_is_the_tenant() {
        assert_eq!(of(&[("x-tenant-id", b"acme")]), ok("acme"));
        assert_eq!(of(&[("X-TENANT-ID", b"Acme")]), ok("Acme"));
        assert_eq!(of(&[("x-tenant", b"acme")]), Err(Absent));
        assert_eq!(of(&[]), Err(Absent));
        for value in [
            &b""[..],
            b" ",
            b" acme",
            b"acme ",
            b"acme, globex",
            b"acme,globex",
            b"\"acme\"",
            b"acme;q=1",
            b"../acme",
            b"acme\0",
            b"acme\t",
            b"acm\xe9",
            "ácme".as_bytes(),
            b"%61cme",
            &[b'a'; 64],
        ] {
            assert_eq!(of(&[("x-tenant-id", value)]), Err(Malformed), "{value:?}");
        }
    }

    #[test]
    fn a_field_that_is_there_twice_is_refused() {
        for second in [&b"globex"[..], b"acme", b""] {
            let fields = [("x-tenant-id", &b"acme"[..]), ("X-Tenant-Id", second)];
            assert_eq!(of(&fields), Err(Malformed));
        }
    }

    #[test]
    fn a_name_is_one_word() {
        for bad in [
            "",
            "x tenant",
            "x:tenant",
            "x-tenant\r\n",
            "x-ténant",
            "x,y",
        ] {
            let error = HeaderResolver::new(bad).expect_err(bad);
            assert_eq!(error.kind(), ErrorKind::InvalidOption, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_value_is_taken_for_another(value in proptest::collection::vec(any::<u8>(), 0..70)) {
            if let Ok(tenant) = of(&[("x-tenant-id", &value)]) {
                prop_assert_eq!(tenant.as_bytes(), value);
            }
        }
    }
}

mod path {
    use super::*;

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
                    let read = lenient(&path, decodings);
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

    /// A path as the most helpful of servers reads it.
    fn lenient(path: &str, decodings: usize) -> Vec<String> {
        let mut bytes = path.as_bytes().to_vec();
        for _ in 0..decodings {
            let mut decoded = Vec::new();
            let mut at = 0;
            while at < bytes.len() {
                let pair = bytes.get(at + 1..at + 3);
                let pair = pair.and_then(|pair| std::str::from_utf8(pair).ok());
                let byte = pair
                    .filter(|pair| !pair.starts_with('+'))
                    .and_then(|pair| u8::from_str_radix(pair, 16).ok());
                match byte {
                    Some(byte) if bytes[at] == b'%' => {
                        decoded.push(byte);
                        at += 3;
                    }
                    _ => {
                        decoded.push(bytes[at]);
                        at += 1;
                    }
                }
            }
            bytes = decoded;
        }
        let mut segments = Vec::new();
        for segment in bytes.split(|byte| matches!(byte, b'/' | b'\\')) {
            match segment {
                b"" | b"." => {}
                b".." => drop(segments.pop()),
                segment => segments.push(String::from_utf8_lossy(segment).into_owned()),
            }
        }
        segments
    }
}

mod together {
    use super::*;

    /// Answers the same to every request.
    struct Says(Result<TenantContext, ResolveErrorKind>);

    #[async_trait]
    impl TenantResolver for Says {
        async fn resolve(&self, _: &RequestHead<'_>) -> Result<TenantContext, ResolveError> {
            self.0.clone().map_err(ResolveError::new)
        }
    }

    fn context(tenant: &str) -> TenantContext {
        TenantContext::new(tenant.parse::<TenantId>().expect("an id"))
    }

    fn both(
        first: Result<TenantContext, ResolveErrorKind>,
        second: Result<TenantContext, ResolveErrorKind>,
    ) -> [Result<TenantContext, ResolveErrorKind>; 2] {
        let head = RequestHead::new(None, "/", &[]);
        let or = Says(first.clone()).or(Says(second.clone()));
        let agrees = Says(first).agrees_with(Says(second));
        [ask(&or, &head), ask(&agrees, &head)]
    }

    #[test]
    fn another_one_is_asked_only_where_the_first_is_told_nothing() {
        for silence in [Absent, TokenAbsent] {
            assert_eq!(both(Err(silence), Ok(context("b")))[0], Ok(context("b")));
            assert_eq!(both(Err(silence), Err(Malformed))[0], Err(Malformed));
            assert_eq!(both(Err(silence), Err(Absent))[0], Err(silence));
            assert_eq!(both(Err(silence), Err(TokenAbsent))[0], Err(TokenAbsent));
        }
        assert_eq!(
            both(Ok(context("a")), Ok(context("b")))[0],
            Ok(context("a"))
        );
        for refusal in every_refusal() {
            assert_eq!(both(Err(refusal), Ok(context("b")))[0], Err(refusal));
        }
    }

    #[test]
    fn a_second_one_does_not_contradict_the_first() {
        let (a, b) = (context("a"), context("b"));
        assert_eq!(both(Ok(a.clone()), Ok(a.clone()))[1], Ok(a.clone()));
        assert_eq!(both(Ok(a.clone()), Ok(b.clone()))[1], Err(Disagreement));
        let (one, other) = (a.clone().user("1"), a.clone().user("2"));
        assert_eq!(both(Ok(one.clone()), Ok(a.clone()))[1], Ok(one.clone()));
        assert_eq!(both(Ok(a.clone()), Ok(one.clone()))[1], Ok(a.clone()));
        assert_eq!(both(Ok(one.clone()), Ok(other))[1], Err(Disagreement));
        for silence in [Absent, TokenAbsent] {
            assert_eq!(both(Ok(one.clone()), Err(silence))[1], Ok(one.clone()));
            assert_eq!(both(Err(silence), Ok(b.clone()))[1], Err(silence));
        }
        for refusal in every_refusal() {
            assert_eq!(both(Ok(a.clone()), Err(refusal))[1], Err(refusal));
            assert_eq!(both(Err(refusal), Ok(a.clone()))[1], Err(refusal));
        }
    }

    fn every_refusal() -> [ResolveErrorKind; 4] {
        [
            Malformed,
            Disagreement,
            TokenSignature,
            ResolveErrorKind::Unavailable,
        ]
    }

    #[test]
    fn a_resolver_may_be_chosen_at_run_time() {
        let path: Arc<dyn TenantResolver> = Arc::new(PathResolver::segment(0));
        let boxed: Box<dyn TenantResolver> =
            Box::new(Arc::clone(&path).or(HeaderResolver::new("x").expect("a name")));
        let head = RequestHead::new(None, "/", &[("x", "acme")]);
        assert_eq!(tenant(&boxed, &head), ok("acme"));
    }

    #[test]
    fn refusals_say_nothing_of_what_was_sent() {
        let secret = "c4n4ry";
        let host = format!("{secret}@x");
        let path = format!("/%2e%2e/{secret}");
        let fields = [("host", &*host), ("x", &*host)];
        let head = RequestHead::new(None, &path, &fields);
        let resolver = HostResolver::subdomain_of("x.test").expect("a domain");
        let mut texts = vec![format!("{head:?} {resolver:?}")];
        for resolver in [
            Box::new(resolver) as Box<dyn TenantResolver>,
            Box::new(HeaderResolver::new("x").expect("a name")),
            Box::new(PathResolver::segment(1)),
        ] {
            let answer = futures_util::FutureExt::now_or_never(resolver.resolve(&head));
            let error = answer.expect("no resolver waits").expect_err("refused");
            texts.push(format!("{error} {error:?}"));
        }
        assert!(!texts.concat().contains(secret), "{texts:?}");
    }
}

/// Texts that are `usual` but for a few characters, or made of odd ones alone.
fn odd(usual: &'static str, odd: &'static str) -> impl Strategy<Value = String> {
    let characters: Vec<char> = odd.chars().collect();
    let any_odd = proptest::sample::select(characters);
    let edits =
        proptest::collection::vec((any::<prop::sample::Index>(), 0_usize..3, any_odd), 0..5);
    (prop::bool::weighted(0.8), edits).prop_map(move |(begin_usual, edits)| {
        let mut text: Vec<char> = if begin_usual {
            usual.chars().collect()
        } else {
            Vec::new()
        };
        for (at, deleted, inserted) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + deleted).min(text.len());
            text.splice(at..end, [inserted]);
        }
        text.into_iter().collect()
    })
}
