//! Many clients of many tenants, bounded in count.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tenantry::TenantId;
use tokio::sync::watch;

use crate::client::{Answer, Client};
use crate::ledger::{Fate, Ledger};
use crate::operation::Operation;
use crate::tally::Tally;

pub struct Load {
    pub address: SocketAddr,
    pub tenants: Arc<[TenantId]>,
    pub requests: u64,
    pub clients: usize,
    /// Of the operations, which no two loads on the same databases may have alike.
    pub seed: u64,
    /// Whether some requests are given up half-way.
    pub hangs_up: bool,
    /// How many requests have been begun.
    pub progress: watch::Sender<u64>,
}

impl Load {
    pub async fn drive(&self, ledger: &Ledger) -> Tally {
        let started = Instant::now();
        let clients = (0..self.clients).map(|_| self.client(ledger, started));
        let mut tally = Tally::default();
        for other in futures_util::future::join_all(clients).await {
            tally.add(other);
        }
        tally.elapsed = started.elapsed();
        tally
    }

    /// Each client asks for all tenants in turn, over one connection.
    async fn client(&self, ledger: &Ledger, started: Instant) -> Tally {
        let mut client = Client::new(self.address);
        let mut tally = Tally::default();
        while let Some(number) = self.next() {
            let operation = Operation::draw(self.seed, number, &self.tenants);
            let request = operation.request(self.address);
            tally.requests += 1;
            let patience = patience(self.seed, number).filter(|_| self.hangs_up);
            let answer = match patience {
                None => Some(client.send(request).await),
                Some(patience) => client.send_for(request, patience).await,
            };
            match answer {
                None => {
                    tally.hung_up += 1;
                    ledger.note(&operation, unheard(&operation));
                }
                Some(Err(_)) => {
                    tally.unanswered += 1;
                    ledger.note(&operation, unheard(&operation));
                }
                Some(Ok(answer)) => {
                    ledger.note(&operation, fate(&answer));
                    let verdict = operation.judge(&answer);
                    tally.answered(number, started.elapsed(), verdict);
                    if answer.retry_after.is_some() {
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        }
        tally
    }

    fn next(&self) -> Option<u64> {
        let mut number = None;
        self.progress.send_if_modified(|begun| {
            number = (*begun < self.requests).then_some(*begun);
            *begun += u64::from(number.is_some());
            number.is_some()
        });
        number
    }
}

/// A client that was told to come back later does not use up the load meanwhile.
const PAUSE: Duration = Duration::from_millis(40);

/// One request in 64 is given up, before, while or after the service works on it.
fn patience(seed: u64, number: u64) -> Option<Duration> {
    let mut rng = fastrand::Rng::with_seed(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    (rng.u32(..64) == 0).then(|| Duration::from_micros(rng.u64(..8_000)))
}

fn unheard(operation: &Operation) -> Fate {
    match operation.must_be_refused() {
        true => Fate::Refused,
        false => Fate::Unknown,
    }
}

fn fate(answer: &Answer) -> Fate {
    match answer.problem().as_deref() {
        None if answer.status.is_success() => Fate::Acknowledged,
        // It says of itself that nothing was kept.
        Some(problem) if problem != "outcome-unknown" => Fate::Refused,
        _ => Fate::Unknown,
    }
}
