//! Tokens: which count, and why the others do not. Each refusal has a kind of its own.

#[path = "jwt/building.rs"]
mod building;
#[path = "jwt/claims.rs"]
mod claims;
#[path = "jwt/issuer.rs"]
mod issuer;
#[path = "jwt/jwks.rs"]
mod jwks;
#[path = "jwt/keys.rs"]
mod keys;
#[path = "jwt/request.rs"]
mod request;
#[path = "jwt/text.rs"]
mod text;
#[path = "jwt/verification.rs"]
mod verification;
