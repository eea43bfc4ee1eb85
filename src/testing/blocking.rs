//! Blocking work and pauses off the runtime's threads.

use std::time::Duration;

use super::ServerError;

/// Runs `work` where it may block. A caller that goes away does not stop it; what it returns is
/// dropped then, so guards belong into the returned value.
pub(super) async fn blocking<T, F>(work: F) -> Result<T, ServerError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, ServerError> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(ServerError::Interrupted {
            source: error.into(),
        }),
    }
}

/// Real time passes, also where a test has paused tokio's clock: the server does not know of it.
pub(super) async fn pause(duration: Duration) -> Result<(), ServerError> {
    blocking(move || {
        #[expect(
            clippy::disallowed_methods,
            reason = "on a thread of its own: a test may have paused the clock of tokio"
        )]
        std::thread::sleep(duration);
        Ok(())
    })
    .await
}
