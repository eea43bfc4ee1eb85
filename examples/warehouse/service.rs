//! The rules of a warehouse. It knows neither HTTP nor SQL nor tenants: its repository is bound.

use crate::repository::Stock;
use crate::stock::{Kind, Move, NewMove, NewProduct, Order, Product, Recorded, StockError};

pub struct Warehouse<S> {
    stock: S,
}

impl<S: Stock> Warehouse<S> {
    pub fn over(stock: S) -> Self {
        Self { stock }
    }

    pub async fn products(&self) -> Result<Vec<Product>, StockError> {
        self.stock.products().await
    }

    /// With its stock level.
    pub async fn product(&self, sku: &str) -> Result<Product, StockError> {
        check_sku(sku)?;
        let product = self.stock.product(sku).await?;
        product.ok_or(StockError::NoSuchProduct)
    }

    pub async fn add(&self, product: &NewProduct) -> Result<(), StockError> {
        check_sku(&product.sku)?;
        check_text(
            &product.name,
            "a name has 1 to 64 bytes and no control characters",
        )?;
        if !(0..=MOST).contains(&product.reorder_point) {
            return Err(StockError::Invalid("a reorder point is 0 to 1000000"));
        }
        self.stock.add(product).await
    }

    pub async fn record(&self, sku: &str, new: &NewMove) -> Result<Recorded, StockError> {
        check_sku(sku)?;
        check_text(
            &new.reference,
            "a reference has 1 to 64 bytes and no control characters",
        )?;
        if !(1..=MOST).contains(&new.quantity) {
            return Err(StockError::Invalid("a quantity is 1 to 1000000"));
        }
        let quantity = match new.kind {
            Kind::Receive => new.quantity,
            Kind::Ship => -new.quantity,
        };
        self.stock.record(sku, quantity, &new.reference).await
    }

    pub async fn moves(&self, sku: &str) -> Result<Vec<Move>, StockError> {
        check_sku(sku)?;
        self.stock.moves(sku).await
    }

    pub async fn open_orders(&self) -> Result<Vec<Order>, StockError> {
        self.stock.open_orders().await
    }

    /// Orders what is below its reorder point, up to twice that; says how many orders were placed.
    pub async fn replenish(&self) -> Result<u64, StockError> {
        let mut placed = 0;
        for product in self.stock.low().await? {
            let wanted = 2 * i64::from(product.reorder_point) - product.on_hand;
            let quantity = i32::try_from(wanted).unwrap_or(MOST);
            placed += u64::from(self.stock.order(&product.sku, quantity).await?);
        }
        Ok(placed)
    }
}

/// Of anything at a time.
const MOST: i32 = 1_000_000;

fn check_sku(sku: &str) -> Result<(), StockError> {
    check_text(sku, "a sku has 1 to 64 bytes and no control characters")
}

fn check_text(text: &str, rule: &'static str) -> Result<(), StockError> {
    match text.is_empty() || text.len() > 64 || text.chars().any(char::is_control) {
        true => Err(StockError::Invalid(rule)),
        false => Ok(()),
    }
}
