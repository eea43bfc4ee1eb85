//! Many clients that save invoices of one organisation at once.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Request, header};
use serde_json::json;
use uuid::Uuid;

use crate::client::Client;
use crate::invoices::Invoice;

pub struct Load {
    pub address: SocketAddr,
    pub path: &'static str,
    pub token: String,
    pub case: Uuid,
    pub clients: usize,
    pub requests: u64,
}

#[derive(Default)]
pub struct Tally {
    /// How many answers of each status and problem.
    pub answers: BTreeMap<String, u64>,
    /// The numbers that were given.
    pub numbers: Vec<String>,
    /// Milliseconds.
    pub latencies: Vec<f64>,
    pub elapsed: Duration,
}

impl Load {
    /// Each client saves one invoice after the other. A tenth of them are for a case that is not
    /// there, which the database finds out after it has taken the number.
    pub async fn drive(&self) -> Tally {
        let begun = AtomicU64::new(0);
        let started = Instant::now();
        let clients = (0..self.clients).map(|_| self.client(&begun));
        let mut tally = Tally::default();
        for other in futures_util::future::join_all(clients).await {
            for (answer, count) in other.answers {
                *tally.answers.entry(answer).or_default() += count;
            }
            tally.numbers.extend(other.numbers);
            tally.latencies.extend(other.latencies);
        }
        tally.elapsed = started.elapsed();
        tally
    }

    async fn client(&self, begun: &AtomicU64) -> Tally {
        let mut client = Client::new(self.address);
        let mut tally = Tally::default();
        loop {
            let number = begun.fetch_add(1, Ordering::Relaxed);
            if number >= self.requests {
                return tally;
            }
            let case = match number % 10 {
                9 => Uuid::nil(),
                _ => self.case,
            };
            let asked = Instant::now();
            let answer = client.send(self.request(case)).await.expect("an answer");
            tally.latencies.push(asked.elapsed().as_secs_f64() * 1e3);
            let name = match answer.problem() {
                None => answer.status.as_str().to_owned(),
                Some(problem) => format!("{} {problem}", answer.status.as_str()),
            };
            *tally.answers.entry(name).or_default() += 1;
            if answer.status.is_success() {
                let invoice: Invoice = answer.json().expect("an invoice");
                tally.numbers.push(invoice.number);
            }
        }
    }

    fn request(&self, case: Uuid) -> Request<Body> {
        let body = json!({"case_id": case, "amount": 100}).to_string();
        Request::post(self.path)
            .header(header::HOST, "practice.example")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .body(Body::from(body))
            .expect("a request")
    }
}

impl Tally {
    /// Invoices saved in a second.
    pub fn throughput(&self) -> f64 {
        self.numbers.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// So many of a hundred answers came in this many milliseconds.
    pub fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.latencies.clone();
        sorted.sort_by(f64::total_cmp);
        let place = (sorted.len() * percent).div_ceil(100);
        sorted.get(place.saturating_sub(1)).copied().unwrap_or(0.0)
    }

    /// Answers that no client should get.
    pub fn unwanted(&self) -> u64 {
        let unwanted = self
            .answers
            .iter()
            .filter(|(answer, _)| answer.starts_with('5') || answer.starts_with("409"));
        unwanted.map(|(_, count)| count).sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.0} invoices/s, p50 {:.1} ms, p99 {:.1} ms, {:?}",
            self.throughput(),
            self.percentile(50),
            self.percentile(99),
            self.answers
        )
    }
}
