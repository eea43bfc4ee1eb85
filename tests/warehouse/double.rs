//! The rules of the service, on a repository in memory: no server, no tenant.

use std::sync::Mutex;

use async_trait::async_trait;

use crate::repository::Stock;
use crate::service::Warehouse;
use crate::stock::{Kind, Move, NewMove, NewProduct, Order, Product, Recorded, StockError};

/// It remembers what it was asked to write.
#[derive(Default)]
struct Double {
    products: Vec<Product>,
    written: Mutex<Vec<(String, i32)>>,
}

impl Double {
    fn with(products: &[(&str, i32, i64)]) -> Self {
        let product = |(sku, reorder_point, on_hand): &(&str, i32, i64)| Product {
            sku: (*sku).to_owned(),
            name: String::new(),
            reorder_point: *reorder_point,
            on_hand: *on_hand,
            written_by: String::new(),
        };
        Self {
            products: products.iter().map(product).collect(),
            ..Self::default()
        }
    }

    fn wrote(&self, sku: &str, quantity: i32) {
        let mut written = self.written.lock().expect("no panic");
        written.push((sku.to_owned(), quantity));
    }
}

#[async_trait]
impl Stock for &Double {
    async fn products(&self) -> Result<Vec<Product>, StockError> {
        Ok(self.products.clone())
    }

    async fn product(&self, sku: &str) -> Result<Option<Product>, StockError> {
        let mut products = self.products.iter();
        Ok(products.find(|product| product.sku == sku).cloned())
    }

    async fn add(&self, product: &NewProduct) -> Result<(), StockError> {
        self.wrote(&product.sku, 0);
        Ok(())
    }

    async fn record(
        &self,
        sku: &str,
        quantity: i32,
        reference: &str,
    ) -> Result<Recorded, StockError> {
        self.wrote(sku, quantity);
        let moved = Move {
            sku: sku.to_owned(),
            quantity,
            reference: reference.to_owned(),
            written_by: String::new(),
        };
        Ok(Recorded { moved, on_hand: 0 })
    }

    async fn moves(&self, _: &str) -> Result<Vec<Move>, StockError> {
        Ok(Vec::new())
    }

    async fn open_orders(&self) -> Result<Vec<Order>, StockError> {
        Ok(Vec::new())
    }

    async fn low(&self) -> Result<Vec<Product>, StockError> {
        let products = self.products.iter();
        let low = products.filter(|product| product.on_hand < i64::from(product.reorder_point));
        Ok(low.cloned().collect())
    }

    async fn order(&self, sku: &str, quantity: i32) -> Result<bool, StockError> {
        self.wrote(sku, quantity);
        Ok(true)
    }
}

#[tokio::test]
async fn what_runs_low_is_ordered_up_to_twice_its_reorder_point() {
    let double = Double::with(&[("low", 10, 4), ("enough", 10, 10), ("out", 3, 0)]);
    let placed = Warehouse::over(&double).replenish().await.expect("placed");
    assert_eq!(placed, 2);
    let written = double.written.lock().expect("no panic").clone();
    assert_eq!(written, [("low".to_owned(), 16), ("out".to_owned(), 6)]);
}

#[tokio::test]
async fn what_is_shipped_goes_out() {
    let double = Double::default();
    let warehouse = Warehouse::over(&double);
    for kind in [Kind::Ship, Kind::Receive] {
        let new = a_move(kind, 7, "note-1");
        warehouse.record("sku", &new).await.expect("recorded");
    }
    let written = double.written.lock().expect("no panic").clone();
    assert_eq!(written, [("sku".to_owned(), -7), ("sku".to_owned(), 7)]);
}

#[tokio::test]
async fn what_breaks_a_rule_does_not_reach_the_repository() {
    let double = Double::default();
    let warehouse = Warehouse::over(&double);
    let long = "x".repeat(65);
    for (sku, quantity, reference) in [
        ("sku", 0, "r"),
        ("sku", -1, "r"),
        ("sku", i32::MIN, "r"),
        ("sku", 1_000_001, "r"),
        ("sku", 1, ""),
        ("sku", 1, &long),
        ("sku", 1, "a\0b"),
        ("", 1, "r"),
        ("a\nb", 1, "r"),
    ] {
        let new = a_move(Kind::Ship, quantity, reference);
        let refused = warehouse.record(sku, &new).await;
        assert!(
            matches!(refused, Err(StockError::Invalid(_))),
            "{sku:?} {new:?}"
        );
    }
    for (sku, name, reorder_point) in [("", "n", 0), ("s", "", 0), ("s", "n", -1)] {
        let new = NewProduct {
            sku: sku.to_owned(),
            name: name.to_owned(),
            reorder_point,
        };
        let refused = warehouse.add(&new).await;
        assert!(matches!(refused, Err(StockError::Invalid(_))), "{new:?}");
    }
    assert!(double.written.lock().expect("no panic").is_empty());
}

fn a_move(kind: Kind, quantity: i32, reference: &str) -> NewMove {
    NewMove {
        kind,
        quantity,
        reference: reference.to_owned(),
    }
}
