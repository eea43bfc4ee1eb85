//! Where a token stands in a request, and what else the request says.

use serde_json::json;
use tenantry::ResolveErrorKind::{
    Disagreement, Malformed, TokenAbsent, TokenMalformed, TokenSignature,
};
use tenantry::{
    HeaderFields, HeaderResolver, HostResolver, RequestHead, ResolveErrorKind, TenantContext,
    TenantResolver,
};

use crate::issuer::*;

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

fn ask(
    resolver: &impl TenantResolver,
    fields: &[(&str, &[u8])],
) -> Result<TenantContext, ResolveErrorKind> {
    let raw = Raw(fields);
    let head = RequestHead::new(Some("globex.example.test"), "/", &raw);
    let answer = futures_util::FutureExt::now_or_never(resolver.resolve(&head));
    answer
        .expect("it does not wait")
        .map_err(|error| error.kind())
}

fn token() -> String {
    Signer::hs256(SECRET).sign(&header("HS256", None), &claims())
}

#[test]
fn the_token_stands_in_one_field() {
    let resolver = resolver(hs256());
    let token = token();
    for value in [
        format!("Bearer {token}"),
        format!("bearer {token}"),
        format!("BEARER   {token}"),
    ] {
        let context = ask(&resolver, &[("Authorization", value.as_bytes())]);
        assert_eq!(context.expect("verified").tenant().as_str(), "acme");
    }
    for value in [
        "",
        "Basic dTpw",
        "Bearertoken",
        &token,
        "Bearer\ttoken",
        "DPoP x",
    ] {
        let refused = if value.contains('\t') {
            Malformed
        } else {
            TokenAbsent
        };
        assert_eq!(
            ask(&resolver, &[("authorization", value.as_bytes())]),
            Err(refused),
            "{value}"
        );
    }
    for value in [
        "Bearer",
        "Bearer ",
        "Bearer x",
        &format!("Bearer {token} {token}"),
        &format!("Bearer {token},x"),
    ] {
        assert_eq!(
            ask(&resolver, &[("authorization", value.as_bytes())]),
            Err(TokenMalformed),
            "{value}"
        );
    }
    assert_eq!(ask(&resolver, &[]), Err(TokenAbsent));
    let value = format!("Bearer {token}");
    let twice = [
        ("authorization", value.as_bytes()),
        ("Authorization", value.as_bytes()),
    ];
    assert_eq!(ask(&resolver, &twice), Err(Malformed));
    assert_eq!(
        ask(&resolver, &[("authorization", b"Bearer \xff")]),
        Err(Malformed)
    );
}

#[test]
fn a_field_that_contradicts_the_token_is_refused() {
    let resolver =
        resolver(hs256()).agrees_with(HeaderResolver::new("x-tenant-id").expect("a name"));
    let value = format!("Bearer {}", token());
    let with = |tenant: Option<&[u8]>| {
        let mut fields = vec![("authorization", value.as_bytes())];
        fields.extend(tenant.map(|tenant| ("x-tenant-id", tenant)));
        ask(&resolver, &fields).map(|context| {
            (
                context.tenant().to_string(),
                context.user_id().map(str::to_owned),
            )
        })
    };
    let acme = Ok(("acme".to_owned(), Some("user-1".to_owned())));
    assert_eq!(with(None), acme);
    assert_eq!(with(Some(b"acme")), acme);
    for other in [&b"globex"[..], b"ACME", b"acme2"] {
        assert_eq!(with(Some(other)), Err(Disagreement));
    }
    assert_eq!(with(Some(b"")), Err(Malformed));
    assert_eq!(with(Some(b"acme, globex")), Err(Malformed));
    assert_eq!(
        ask(&resolver, &[("x-tenant-id", b"acme")]),
        Err(TokenAbsent),
        "a field is no token"
    );
}

#[test]
fn nor_do_the_host_or_a_bad_token_stand_in_for_it() {
    let host = || HostResolver::subdomain_of("example.test").expect("a domain");
    let value = format!("Bearer {}", token());
    let good = [("authorization", value.as_bytes())];
    assert_eq!(
        ask(&resolver(hs256()).agrees_with(host()), &good),
        Err(Disagreement)
    );
    let either = resolver(hs256()).or(host());
    assert_eq!(
        ask(&either, &good).expect("verified").tenant().as_str(),
        "acme"
    );
    assert_eq!(
        ask(&either, &[]).expect("the host").tenant().as_str(),
        "globex"
    );
    let forged = Signer::hs256(OTHER_SECRET).sign(&header("HS256", None), &claims());
    for (bad, refused) in [
        ("", TokenMalformed),
        ("x", TokenMalformed),
        (&*forged, TokenSignature),
    ] {
        let value = format!("Bearer {bad}");
        let fields = [("authorization", value.as_bytes())];
        assert_eq!(ask(&either, &fields), Err(refused));
    }
}

#[test]
fn refusals_say_nothing_of_the_token() {
    let resolver = resolver(hs256());
    let secret = "c4n4ry";
    let mut claims = claims();
    claims["org"] = json!(format!("{secret} {secret}"));
    let token = Signer::hs256(SECRET).sign(&header("HS256", None), &claims);
    for token in [&*token, secret, &format!("{secret}.{secret}.{secret}")] {
        let error = resolver.verify(token).expect_err("refused");
        let text = format!("{error} {error:?}");
        assert!(!text.contains(secret) && !text.contains(token), "{text}");
        let mut source = std::error::Error::source(&error);
        assert!(source.take().is_none());
    }
}
