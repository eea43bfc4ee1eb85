//! What a warehouse keeps, and what can go wrong with it.

use serde::{Deserialize, Serialize};
use sqlx::FromRow;
use tenantry::{Error, ErrorKind};

/// Each row says for which tenant it was written, so that one which lies in the wrong database can
/// be told. Isolation does not need it: a load test looks at it.
#[derive(Clone, Debug, Serialize, Deserialize, FromRow)]
pub struct Product {
    pub sku: String,
    pub name: String,
    pub reorder_point: i32,
    pub on_hand: i64,
    pub written_by: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewProduct {
    pub sku: String,
    pub name: String,
    pub reorder_point: i32,
}

/// Stock that came in (a positive quantity) or went out.
#[derive(Clone, Debug, Serialize, Deserialize, FromRow)]
pub struct Move {
    pub sku: String,
    pub quantity: i32,
    pub reference: String,
    pub written_by: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewMove {
    pub kind: Kind,
    pub quantity: i32,
    /// The client's own name for it. A reference is recorded once, so that a client that did not
    /// hear the answer can ask again.
    pub reference: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Receive,
    Ship,
}

/// A move, and how much there is after it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recorded {
    #[serde(flatten)]
    pub moved: Move,
    pub on_hand: i64,
}

/// Goods that are on their way.
#[derive(Clone, Debug, Serialize, Deserialize, FromRow)]
pub struct Order {
    pub sku: String,
    pub quantity: i32,
    pub written_by: String,
}

#[derive(Debug)]
pub enum StockError {
    /// A field breaks this rule.
    Invalid(&'static str),
    NoSuchProduct,
    /// The stock would go below zero.
    NotEnough,
    /// There is such a product, or such a reference, already.
    AlreadyThere,
    /// The connection went while the server was to keep something.
    OutcomeUnknown,
    /// Nothing was kept.
    Store(Error),
}

impl StockError {
    /// Of a single statement that writes: it is its own transaction, and its end may go unheard.
    pub fn of_write(error: sqlx::Error) -> Self {
        match Error::from(error) {
            error if error.kind() == ErrorKind::ConnectionLost => Self::OutcomeUnknown,
            error => error.into(),
        }
    }
}

/// The rules that the database keeps, by name.
impl From<Error> for StockError {
    fn from(error: Error) -> Self {
        match error.constraint() {
            Some("never_below_zero") => Self::NotEnough,
            Some("one_product_a_sku" | "one_move_a_reference") => Self::AlreadyThere,
            _ => Self::Store(error),
        }
    }
}

impl From<sqlx::Error> for StockError {
    fn from(error: sqlx::Error) -> Self {
        Error::from(error).into()
    }
}
