//! Where handlers and tests wait for each other, without a clock.

use std::sync::{Arc, Mutex};

use tokio::sync::Semaphore;

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
        take(&self.time_is_up).await;
    }
}

struct Left<'a>(&'a Semaphore);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

async fn take(signal: &Semaphore) {
    signal.acquire().await.expect("never closed").forget();
}
