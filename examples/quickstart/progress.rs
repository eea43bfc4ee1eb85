//! One line that is kept up to date, or a line a second where nobody could see it change.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::carriers::Carrier;

pub struct Progress {
    done: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Progress {
    pub fn start(carriers: Arc<[Carrier]>, operations: u64) -> Self {
        let (done, mut end) = oneshot::channel();
        let terminal = std::io::stdout().is_terminal();
        let every = Duration::from_millis(if terminal { 100 } else { 1_000 });
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(every);
            loop {
                let ended = tokio::select! {
                    _ = ticks.tick() => false,
                    _ = &mut end => true,
                };
                let line = line(&carriers, operations);
                match terminal {
                    true => print!("\r\x1b[2K{line}"),
                    false => println!("{line}"),
                }
                let _ = std::io::stdout().flush();
                if ended {
                    if terminal {
                        println!();
                    }
                    return;
                }
            }
        });
        Self { done, task }
    }

    pub async fn end(self) {
        let _ = self.done.send(());
        let _ = self.task.await;
    }
}

fn line(carriers: &[Carrier], operations: u64) -> String {
    let sum = |count: fn(&Carrier) -> &AtomicU64| -> u64 {
        carriers
            .iter()
            .map(|carrier| count(carrier).load(Ordering::Relaxed))
            .sum()
    };
    format!(
        "{:>6} of {operations} operations, {} cancelled, {} rows looked at, {} foreign",
        sum(|carrier| &carrier.operations),
        sum(|carrier| &carrier.cancelled),
        sum(|carrier| &carrier.looked_at),
        sum(|carrier| &carrier.foreign),
    )
}
