//! Who acts is what a JSON Web Token says (feature `jwt`).
//!
//! [`JwtResolver`] takes the tenant from the token alone, and the user with it. The token is signed
//! with a key of a [`JwtKeySet`], each of which has one algorithm; and it says who issued it, whom
//! it is meant for, and when it expires.

mod claims;
mod jwks;
mod key;
mod key_set;
mod object;
mod resolver;
mod token;

pub use key::JwtKey;
pub use key_set::JwtKeySet;
pub use resolver::{JwtResolver, JwtResolverBuilder};
