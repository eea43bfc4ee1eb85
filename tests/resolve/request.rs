//! Requests, and what becomes of them.

use futures_util::FutureExt as _;
use proptest::prelude::*;
use tenantry::{HeaderFields, RequestHead, ResolveErrorKind, TenantContext, TenantResolver};

/// What a resolver of ours answers: none of them waits for anything.
pub(crate) fn ask(
    resolver: &impl TenantResolver,
    request: &RequestHead<'_>,
) -> Result<TenantContext, ResolveErrorKind> {
    let answer = resolver.resolve(request).now_or_never();
    answer
        .expect("no resolver waits")
        .map_err(|error| error.kind())
}

pub(crate) fn tenant(
    resolver: &impl TenantResolver,
    request: &RequestHead<'_>,
) -> Result<String, ResolveErrorKind> {
    ask(resolver, request).map(|context| context.tenant().to_string())
}

pub(crate) fn ok(tenant: &str) -> Result<String, ResolveErrorKind> {
    Ok(tenant.to_owned())
}

/// Fields with any bytes in them.
pub(crate) struct Raw<'r>(pub(crate) &'r [(&'r str, &'r [u8])]);

impl HeaderFields for Raw<'_> {
    fn each<'r>(&'r self, name: &str, each: &mut dyn FnMut(&'r [u8])) {
        for (field, value) in self.0 {
            if field.eq_ignore_ascii_case(name) {
                each(value);
            }
        }
    }
}

/// Texts that are `usual` but for a few characters, or made of odd ones alone.
pub(crate) fn odd(usual: &'static str, odd: &'static str) -> impl Strategy<Value = String> {
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
