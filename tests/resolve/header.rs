//! The tenant in a header field.

use proptest::prelude::*;
use tenantry::ResolveErrorKind::{Absent, Malformed};
use tenantry::{ErrorKind, HeaderResolver, RequestHead, ResolveErrorKind};

use crate::request::*;

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
