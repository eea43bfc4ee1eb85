//! What a client may ask, and what may be answered to it.

use std::net::SocketAddr;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use fastrand::Rng;
use serde::Serialize;
use tenantry::TenantId;

use crate::client::Answer;
use crate::stock::{Kind, Move, NewMove, NewProduct, Order, Product, Recorded};
use crate::tenants;

#[derive(Debug)]
pub struct Operation {
    pub tenant: TenantId,
    pub what: What,
    named_by: NamedBy,
}

#[derive(Debug)]
pub enum What {
    Products,
    Product(String),
    Moves(String),
    Orders,
    Add(NewProduct),
    Record(String, NewMove),
}

/// How a request says for whom it is.
#[derive(Debug)]
enum NamedBy {
    Host,
    Header,
    Both,
    /// By the host, and the header says somebody else.
    Contradiction(TenantId),
    /// Somebody whom nobody knows.
    Nobody,
}

/// What an answer was.
#[derive(Debug, Default)]
pub struct Verdict {
    pub refused: Option<String>,
    pub rows: u64,
    /// How many of the rows are not the tenant's that asked.
    pub foreign: u64,
    pub unexpected: Option<String>,
}

impl Operation {
    /// The same number draws the same operation.
    pub fn draw(seed: u64, number: u64, tenants: &[TenantId]) -> Self {
        let mut rng = Rng::with_seed(seed.wrapping_mul(0x9e37_79b9).wrapping_add(number));
        let at = rng.usize(..tenants.len());
        let tenant = tenants[at].clone();
        let named_by = match rng.u32(..200) {
            0 => NamedBy::Contradiction(tenants[(at + 1) % tenants.len()].clone()),
            1 => NamedBy::Nobody,
            2..70 => NamedBy::Host,
            70..140 => NamedBy::Header,
            _ => NamedBy::Both,
        };
        let sku = format!("sku-{}", rng.u32(1..=8));
        let what = match rng.u32(..100) {
            0..28 => What::Product(sku),
            28..34 => What::Products,
            34..42 => What::Moves(sku),
            42..50 => What::Orders,
            50 => What::Add(NewProduct {
                sku: format!("new-{seed}-{number}"),
                name: format!("{tenant}/{seed}-{number}"),
                reorder_point: 0,
            }),
            draw => {
                let kind = match draw % 2 {
                    0 => Kind::Receive,
                    _ => Kind::Ship,
                };
                let new = NewMove {
                    kind,
                    quantity: rng.i32(1..=9),
                    reference: format!("{tenant}/{seed}-{number}"),
                };
                What::Record(sku, new)
            }
        };
        Self {
            tenant,
            what,
            named_by,
        }
    }

    pub fn request(&self, address: SocketAddr) -> Request<Body> {
        let (port, domain) = (address.port(), tenants::DOMAIN);
        let host = match &self.named_by {
            NamedBy::Header | NamedBy::Nobody => address.to_string(),
            _ => format!("{}.{domain}:{port}", self.tenant),
        };
        let header = match &self.named_by {
            NamedBy::Host => None,
            NamedBy::Header | NamedBy::Both => Some(self.tenant.as_str()),
            NamedBy::Contradiction(other) => Some(other.as_str()),
            NamedBy::Nobody => Some("nobody"),
        };
        let (method, path, body) = match &self.what {
            What::Products => (Method::GET, "/products".to_owned(), None),
            What::Product(sku) => (Method::GET, format!("/products/{sku}"), None),
            What::Moves(sku) => (Method::GET, format!("/products/{sku}/moves"), None),
            What::Orders => (Method::GET, "/orders".to_owned(), None),
            What::Add(new) => (Method::POST, "/products".to_owned(), Some(json(new))),
            What::Record(sku, new) => {
                let path = format!("/products/{sku}/moves");
                (Method::POST, path, Some(json(new)))
            }
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, host);
        if let Some(tenant) = header {
            request = request.header(tenants::HEADER, tenant);
        }
        let request = match body {
            Some(body) => request
                .header(header::CONTENT_TYPE, "application/json")
                .body(Body::from(body)),
            None => request.body(Body::empty()),
        };
        request.expect("a request")
    }

    /// Whether the answer belongs to the one who asked, and is one to be expected.
    pub fn judge(&self, answer: &Answer) -> Verdict {
        if !answer.status.is_success() {
            return self.judge_refusal(answer);
        }
        let mut verdict = Verdict::default();
        if self.must_be_refused() {
            verdict.unexpected = Some(format!("{self:?} was answered: {answer:?}"));
            return verdict;
        }
        if self.look_at(answer, &mut verdict).is_none() {
            verdict.unexpected = Some(format!("{self:?} was answered otherwise: {answer:?}"));
        }
        verdict
    }

    /// `None` if it is not an answer to this.
    fn look_at(&self, answer: &Answer, verdict: &mut Verdict) -> Option<()> {
        let mut row = |written_by: &str| {
            verdict.rows += 1;
            verdict.foreign += u64::from(written_by != self.tenant.as_str());
        };
        match &self.what {
            What::Products => {
                let products: Vec<Product> = answer.json().ok()?;
                products.iter().for_each(|product| row(&product.written_by));
                (products.len() >= 8).then_some(())
            }
            What::Product(sku) => {
                let product: Product = answer.json().ok()?;
                row(&product.written_by);
                (product.sku == *sku).then_some(())
            }
            What::Moves(sku) => {
                let moves: Vec<Move> = answer.json().ok()?;
                for moved in &moves {
                    row(author(moved).unwrap_or_default());
                }
                moves.iter().all(|moved| moved.sku == *sku).then_some(())
            }
            What::Orders => {
                let orders: Vec<Order> = answer.json().ok()?;
                orders.iter().for_each(|order| row(&order.written_by));
                Some(())
            }
            What::Add(_) => (answer.status == StatusCode::CREATED).then_some(()),
            What::Record(sku, new) => {
                let Recorded { moved, .. } = answer.json().ok()?;
                row(author(&moved).unwrap_or_default());
                (moved.sku == *sku && moved.reference == new.reference).then_some(())
            }
        }
    }

    fn judge_refusal(&self, answer: &Answer) -> Verdict {
        let problem = answer.problem();
        let expected = match (problem.as_deref(), &self.named_by) {
            (problem, NamedBy::Contradiction(_)) => problem == Some("tenants-disagree"),
            (problem, NamedBy::Nobody) => problem == Some("unknown-tenant"),
            (Some("unavailable" | "saturated"), _) => answer.retry_after.is_some(),
            (Some("suspended"), _) => true,
            (Some("outcome-unknown"), _) => self.writes(),
            (Some("not-enough"), _) => {
                matches!(&self.what, What::Record(_, new) if new.kind == Kind::Ship)
            }
            _ => false,
        };
        Verdict {
            unexpected: (!expected).then(|| format!("{self:?} was refused: {answer:?}")),
            refused: Some(problem.unwrap_or_else(|| answer.status.as_str().to_owned())),
            ..Verdict::default()
        }
    }

    pub fn must_be_refused(&self) -> bool {
        matches!(self.named_by, NamedBy::Contradiction(_) | NamedBy::Nobody)
    }

    pub fn writes(&self) -> bool {
        matches!(self.what, What::Add(_) | What::Record(..))
    }
}

/// Who wrote a move: what the server says and what its client said, if they say the same.
pub fn author(moved: &Move) -> Option<&str> {
    let (tenant, _) = moved.reference.split_once('/')?;
    (tenant == moved.written_by).then_some(tenant)
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("JSON")
}
