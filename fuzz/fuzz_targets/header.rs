//! A header field of any bytes: what is resolved is what was sent.
#![no_main]

use futures_util::FutureExt as _;
use libfuzzer_sys::fuzz_target;
use tenantry::{HeaderFields, HeaderResolver, RequestHead, TenantResolver as _};

struct Field<'r>(&'r [u8]);

impl HeaderFields for Field<'_> {
    fn each<'r>(&'r self, _: &str, each: &mut dyn FnMut(&'r [u8])) {
        each(self.0);
    }
}

fuzz_target!(|value: &[u8]| {
    let resolver = HeaderResolver::new("x-tenant-id").expect("a name");
    let field = Field(value);
    let head = RequestHead::new(None, "/", &field);
    let answer = resolver.resolve(&head).now_or_never();
    if let Ok(context) = answer.expect("it does not wait") {
        assert!(value.eq_ignore_ascii_case(context.tenant().as_str().as_bytes()));
        // Upper case of a UUID alone is another spelling of the same id.
        assert!(value.len() == 36 || context.tenant().as_str().as_bytes() == value);
    }
});
