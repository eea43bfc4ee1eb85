//! From a request to a tenant: what a host, a path and a header field say, and what they must not be
//! taken to say. Tokens have a file of their own, `jwt.rs`.

#[path = "resolve/header.rs"]
mod header;
#[path = "resolve/host.rs"]
mod host;
#[path = "resolve/lenient.rs"]
mod lenient;
#[path = "resolve/path.rs"]
mod path;
#[path = "resolve/request.rs"]
mod request;
#[path = "resolve/together.rs"]
mod together;
