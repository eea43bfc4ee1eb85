//! Two resolvers, one beside the other.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use tenantry::ResolveErrorKind::{
    Absent, Disagreement, Malformed, TokenAbsent, TokenSignature, Unavailable,
};
use tenantry::{
    HeaderResolver, HostResolver, PathResolver, RequestHead, ResolveError, ResolveErrorKind,
    TenantContext, TenantId, TenantResolver,
};

use crate::request::*;

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
    [Malformed, Disagreement, TokenSignature, Unavailable]
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
        let answer = resolver.resolve(&head).now_or_never();
        let error = answer.expect("no resolver waits").expect_err("refused");
        texts.push(format!("{error} {error:?}"));
    }
    assert!(!texts.concat().contains(secret), "{texts:?}");
}
