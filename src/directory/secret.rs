//! Credentials by reference.

use std::error::Error as StdError;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
pub use secrecy::SecretString;

/// Where a password is to be had, asked each time a connection is opened.
///
/// `Debug` shows where, and never what.
#[derive(Clone)]
pub struct Secret(Source);

#[derive(Clone)]
enum Source {
    Environment(Arc<str>),
    File(Arc<PathBuf>),
    Resolver(Arc<dyn SecretResolver>, Arc<str>),
}

/// Why a secret could not be had. Whoever writes it keeps the secret out of it.
pub type SecretError = Box<dyn StdError + Send + Sync + 'static>;

/// Fetches secrets from wherever they are kept.
#[async_trait]
pub trait SecretResolver: Send + Sync + 'static {
    /// The secret that goes by this reference, as it is now. Called for each connection that is
    /// opened: a resolver that asks a server keeps its answers for a while.
    ///
    /// # Errors
    ///
    /// Whatever went wrong, without the secret in it.
    ///
    /// # Cancel safety
    ///
    /// Must be cancel safe.
    async fn resolve(&self, reference: &str) -> Result<SecretString, SecretError>;
}

impl Secret {
    /// The value of an environment variable.
    pub fn environment(variable: impl Into<Arc<str>>) -> Self {
        Self(Source::Environment(variable.into()))
    }

    /// The text of a file, without the line break at its end.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Source::File(Arc::new(path.into())))
    }

    /// What a resolver answers for this reference.
    pub fn resolver(resolver: Arc<dyn SecretResolver>, reference: impl Into<Arc<str>>) -> Self {
        Self(Source::Resolver(resolver, reference.into()))
    }

    pub(super) async fn resolve(&self) -> Result<SecretString, SecretError> {
        match &self.0 {
            Source::Environment(variable) => match std::env::var(&**variable) {
                Ok(value) => Ok(value.into()),
                // VarError's own text holds a value that is not Unicode.
                Err(_) => Err(format!("the environment variable {variable} holds no text").into()),
            },
            Source::File(path) => {
                let path = Arc::clone(path);
                let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(&*path));
                let text = read.await??;
                Ok(text.trim_end_matches(['\r', '\n']).into())
            }
            Source::Resolver(resolver, reference) => resolver.resolve(reference).await,
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Environment(variable) => write!(f, "Secret(environment {variable})"),
            Source::File(path) => write!(f, "Secret(file {})", path.display()),
            Source::Resolver(_, reference) => write!(f, "Secret(resolver {reference})"),
        }
    }
}
