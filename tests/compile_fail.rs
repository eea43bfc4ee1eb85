//! Guarantee 1: a statement without a tenant cannot be written. Each file of `tests/ui` is one way
//! to try, and what the compiler says to it.
//!
//! The texts are those of one release of Rust: `TRYBUILD=overwrite cargo test --test compile_fail`
//! writes them anew.

#[test]
fn statement_without_a_tenant_does_not_compile() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/no_*.rs");
}
