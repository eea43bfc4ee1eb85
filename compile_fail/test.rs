//! Guarantee 1: a statement without a tenant cannot be written. Each file of `compile_fail/ui` is one way
//! to try, and what the compiler says to it.
//!
//! The texts are those of one release of Rust: `TRYBUILD=overwrite cargo test -p tenantry-compile-fail`
//! writes them anew.

#[test]
fn statement_without_a_tenant_does_not_compile() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("ui/no_*.rs");
}
