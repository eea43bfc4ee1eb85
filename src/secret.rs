//! Credentials by reference.

use std::error::Error as StdError;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
pub use secrecy::SecretString;

/// Where a password is to be had, asked each time a connection is opened; or the secret of a
/// [`SigningKey`](crate::SigningKey), asked once.
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
    /// opened, if it is a password: a resolver that asks a server keeps its answers for a while.
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

    pub(crate) async fn resolve(&self) -> Result<SecretString, SecretError> {
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

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    const VALUE: &str = "hunter2-secret";

    struct Vault;

    #[async_trait]
    impl SecretResolver for Vault {
        async fn resolve(&self, reference: &str) -> Result<SecretString, SecretError> {
            match reference {
                "known" => Ok(VALUE.into()),
                _ => Err("there is no such secret".into()),
            }
        }
    }

    async fn value(secret: &Secret) -> String {
        let secret = secret.resolve().await.expect("a secret");
        secret.expose_secret().to_owned()
    }

    #[tokio::test]
    async fn a_variable_of_the_environment() {
        // Cargo sets it for tests.
        let secret = Secret::environment("CARGO_MANIFEST_DIR");
        assert_eq!(value(&secret).await, env!("CARGO_MANIFEST_DIR"));
        assert_eq!(
            format!("{secret:?}"),
            "Secret(environment CARGO_MANIFEST_DIR)"
        );

        let error = Secret::environment("TENANTRY_NO_SUCH_VARIABLE")
            .resolve()
            .await;
        let error = error.expect_err("there is none");
        assert!(
            error.to_string().contains("TENANTRY_NO_SUCH_VARIABLE"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_file_without_the_line_break_at_its_end_and_read_anew_each_time() {
        let path = std::env::temp_dir().join(format!("tenantry_secret_{}", std::process::id()));
        let secret = Secret::file(&path);
        for (text, expected) in [
            (VALUE.to_owned(), VALUE.to_owned()),
            (format!("{VALUE}\n"), VALUE.to_owned()),
            (format!("{VALUE}\r\n"), VALUE.to_owned()),
            (format!(" {VALUE}\nx \n"), format!(" {VALUE}\nx ")),
        ] {
            std::fs::write(&path, text).expect("a file");
            assert_eq!(value(&secret).await, expected);
        }
        std::fs::write(&path, [b'h', 0xff, b'\n']).expect("a file");
        secret.resolve().await.expect_err("no text");
        std::fs::remove_file(&path).expect("it was there");
        secret.resolve().await.expect_err("no file");
        assert_eq!(
            format!("{secret:?}"),
            format!("Secret(file {})", path.display())
        );
    }

    #[tokio::test]
    async fn what_a_resolver_answers() {
        let vault: Arc<dyn SecretResolver> = Arc::new(Vault);
        let secret = Secret::resolver(Arc::clone(&vault), "known");
        assert_eq!(value(&secret).await, VALUE);
        assert_eq!(format!("{secret:?}"), "Secret(resolver known)");
        let error = Secret::resolver(vault, "unknown").resolve().await;
        assert_eq!(
            error.expect_err("unknown").to_string(),
            "there is no such secret"
        );
    }

    #[tokio::test]
    async fn nothing_of_it_is_shown() {
        let secret = Secret::resolver(Arc::new(Vault), "known");
        let resolved = secret.resolve().await.expect("a secret");
        assert!(!format!("{secret:?} {resolved:?}").contains(VALUE));
    }
}
