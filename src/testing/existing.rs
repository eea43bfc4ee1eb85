//! A server that somebody else runs.

use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::postgres::PgConnectOptions;

use super::ServerError;
use super::server::{create_database, drop_database};

pub(super) const URL_VARIABLE: &str = "TENANTRY_TEST_DATABASE_URL";

/// The server that the variable names, and the databases we made on it.
#[derive(Debug)]
pub(super) struct Existing {
    databases: Arc<Databases>,
}

impl Existing {
    /// `None` if the variable is unset or empty.
    pub(super) fn from_environment() -> Result<Option<Self>, ServerError> {
        let url = match std::env::var(URL_VARIABLE) {
            Ok(url) if url.is_empty() => return Ok(None),
            Ok(url) => url,
            Err(std::env::VarError::NotPresent) => return Ok(None),
            // Not with its source: that one shows the value, which may hold a password.
            Err(std::env::VarError::NotUnicode(_)) => {
                return Err(ServerError::Url {
                    source: "it is not UTF-8".into(),
                });
            }
        };
        let options = PgConnectOptions::from_str(&url).map_err(|error| ServerError::Url {
            source: error.into(),
        })?;
        let names = Mutex::default();
        Ok(Some(Self {
            databases: Arc::new(Databases { options, names }),
        }))
    }

    pub(super) fn options(&self) -> &PgConnectOptions {
        &self.databases.options
    }

    /// In a task of its own: a caller that goes away must not leave a database that nobody drops,
    /// and must not have one dropped that was there before.
    pub(super) async fn create_database(&self, name: &str) -> Result<(), ServerError> {
        let databases = Arc::clone(&self.databases);
        let name = name.to_owned();
        let task = tokio::spawn(async move {
            create_database(&databases.options, &name).await?;
            databases.names.lock().push(name);
            Ok(())
        });
        task.await.map_err(|error| ServerError::Interrupted {
            source: error.into(),
        })?
    }

    pub(super) async fn stop(self) -> Result<(), ServerError> {
        self.databases.drop_all().await
    }
}

#[derive(Debug)]
struct Databases {
    options: PgConnectOptions,
    names: Mutex<Vec<String>>,
}

impl Databases {
    async fn drop_all(&self) -> Result<(), ServerError> {
        loop {
            let Some(name) = self.names.lock().last().cloned() else {
                return Ok(());
            };
            drop_database(&self.options, &name).await?;
            self.names.lock().retain(|other| *other != name);
        }
    }
}

impl Drop for Databases {
    fn drop(&mut self) {
        let names = std::mem::take(self.names.get_mut());
        if names.is_empty() {
            return;
        }
        let databases = Self {
            options: self.options.clone(),
            names: Mutex::new(names),
        };
        let (sender, receiver) = mpsc::channel();
        // A thread and a runtime of its own: a drop may happen outside of any runtime, and inside
        // of one nothing may block on a future.
        let thread = std::thread::Builder::new().name("tenantry-drop".to_owned());
        let spawned = thread.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let dropped = runtime.is_ok_and(|runtime| runtime.block_on(databases.drop_all()).is_ok());
            if !dropped {
                let left = std::mem::take(&mut *databases.names.lock());
                tracing::warn!(databases = ?left, "test databases were left on the existing server");
            }
            let _ = sender.send(());
        });
        if spawned.is_ok() {
            // The process may be about to end, and the thread would end with it.
            let _ = receiver.recv_timeout(DROP_TIMEOUT);
        }
    }
}

const DROP_TIMEOUT: Duration = Duration::from_secs(5);
