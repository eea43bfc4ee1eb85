//! What a resolver cannot be made without.

use std::time::Duration;

use tenantry::ErrorKind;
use tenantry::jwt::{JwtKeySet, JwtResolver};

use crate::issuer::*;

#[test]
fn issuer_audience_and_keys_are_needed() {
    let key = || hs256();
    for incomplete in [
        JwtResolver::builder().audience(AUDIENCE).key(key()),
        JwtResolver::builder()
            .issuer("")
            .audience(AUDIENCE)
            .key(key()),
        JwtResolver::builder().issuer(ISSUER).key(key()),
        JwtResolver::builder()
            .issuer(ISSUER)
            .audience("")
            .key(key()),
        builder().audience("").key(key()),
        builder(),
        builder().key(key()).keys(JwtKeySet::default()),
        builder().key(key()).key(key()),
        builder().key(key()).organisation_claim("sub"),
        builder().key(key()).leeway(Duration::from_millis(300_001)),
    ] {
        let error = incomplete.build().expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidOption);
    }
    builder()
        .key(key())
        .leeway(Duration::from_secs(300))
        .build()
        .expect("complete");
}
