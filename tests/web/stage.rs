//! Where handlers and tests wait for each other, without a clock.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Signals that are counted, so that none is lost however early it is given.
#[derive(Clone)]
pub struct Stage {
    reached: Arc<Semaphore>,
    go_on: Arc<Semaphore>,
    time_is_up: Arc<Semaphore>,
    left: Arc<Semaphore>,
    words: Arc<Mutex<Vec<String>>>,
}

impl Stage {
    pub fn new() -> Self {
        let none = || Arc::new(Semaphore::new(0));
        Self {
            reached: none(),
            go_on: none(),
            time_is_up: none(),
            left: none(),
            words: Arc::default(),
        }
    }

    /// A handler is where the test waits for it, and stays until it is told to go on. The test is
    /// told when it has left, however it does.
    pub async fn wait_here(&self) {
        let _left = Left(&self.left);
        self.reached.add_permits(1);
        take(&self.go_on).await;
    }

    /// A handler is where the test waits for it, and does not stay.
    pub fn arrived(&self) {
        self.reached.add_permits(1);
    }

    pub async fn reached(&self) {
        take(&self.reached).await;
    }

    /// What somebody has to say of whom nobody waits.
    pub fn say(&self, words: String) {
        self.words.lock().expect("no panic").push(words);
        self.arrived();
    }

    pub fn said(&self) -> Vec<String> {
        self.words.lock().expect("no panic").clone()
    }

    pub fn go_on(&self) {
        self.go_on.add_permits(1);
    }

    pub async fn left(&self) {
        take(&self.left).await;
    }

    pub fn expire(&self) {
        self.time_is_up.add_permits(1);
    }

    pub async fn expired(&self) {
        let permit = self.time_is_up.acquire().await;
        permit.expect("never closed").forget();
    }
}

struct Left<'a>(&'a Semaphore);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

/// What comes, comes soon: a limit so that a test that fails comes to its end.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(60);
    timeout(limit, what).await.expect("it comes to its end")
}

async fn take(signal: &Semaphore) {
    let permit = soon(signal.acquire()).await;
    permit.expect("never closed").forget();
}
