//! A path of any text: what is resolved is the segment that was sent, and what the most helpful of
//! servers would find in its place.
#![no_main]

use futures_util::FutureExt as _;
use libfuzzer_sys::fuzz_target;
use tenantry::{PathResolver, RequestHead, TenantResolver as _};

#[path = "../../tests/resolve/lenient.rs"]
mod lenient;

fuzz_target!(|path: &str| {
    let head = RequestHead::new(None, path, &[]);
    for resolver in [
        PathResolver::segment(1),
        PathResolver::after("/t").expect("a prefix"),
    ] {
        let answer = resolver.resolve(&head).now_or_never();
        if let Ok(context) = answer.expect("it does not wait") {
            let tenant = context.tenant().as_str();
            let sent = path.split('/').nth(2).expect("a segment");
            assert!(sent == tenant || sent.len() == 36 && sent.eq_ignore_ascii_case(tenant));
            for decodings in 0..4 {
                assert_eq!(
                    lenient::segments(path, decodings)
                        .get(1)
                        .map(String::as_str),
                    Some(sent)
                );
            }
        }
    }
    let _ = PathResolver::after(path);
});
