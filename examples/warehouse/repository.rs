//! The only place with SQL. A repository is constructed with the scope of its tenant.

use async_trait::async_trait;
use tenantry::{CommitError, TenantScope};

use crate::stock::{Move, NewProduct, Order, Product, Recorded, StockError};

/// What the service needs of a store; a test gives it a double.
#[async_trait]
pub trait Stock: Send + Sync {
    async fn products(&self) -> Result<Vec<Product>, StockError>;
    async fn product(&self, sku: &str) -> Result<Option<Product>, StockError>;
    async fn add(&self, product: &NewProduct) -> Result<(), StockError>;

    /// Records a move, all of it or nothing; what comes in settles the open order for it.
    async fn record(
        &self,
        sku: &str,
        quantity: i32,
        reference: &str,
    ) -> Result<Recorded, StockError>;

    /// The newest moves of a product, newest first.
    async fn moves(&self, sku: &str) -> Result<Vec<Move>, StockError>;

    async fn open_orders(&self) -> Result<Vec<Order>, StockError>;

    /// The products below their reorder point for which no order is open.
    async fn low(&self) -> Result<Vec<Product>, StockError>;

    /// `false` if there is an open order already.
    async fn order(&self, sku: &str, quantity: i32) -> Result<bool, StockError>;
}

/// The stock of one tenant, in the tenant's own database.
pub struct PgStock {
    scope: TenantScope,
}

impl PgStock {
    pub fn new(scope: TenantScope) -> Self {
        Self { scope }
    }

    /// The canary of each row that is written here.
    fn written_by(&self) -> &str {
        self.scope.tenant().as_str()
    }
}

#[async_trait]
impl Stock for PgStock {
    async fn products(&self) -> Result<Vec<Product>, StockError> {
        Ok(sqlx::query_as(PRODUCTS).fetch_all(&self.scope).await?)
    }

    async fn product(&self, sku: &str) -> Result<Option<Product>, StockError> {
        let product = sqlx::query_as(PRODUCT).bind(sku);
        Ok(product.fetch_optional(&self.scope).await?)
    }

    async fn add(&self, product: &NewProduct) -> Result<(), StockError> {
        let add = sqlx::query(ADD)
            .bind(&product.sku)
            .bind(&product.name)
            .bind(product.reorder_point)
            .bind(self.written_by());
        let added = add.execute(&self.scope).await;
        added.map(drop).map_err(StockError::of_write)
    }

    async fn record(
        &self,
        sku: &str,
        quantity: i32,
        reference: &str,
    ) -> Result<Recorded, StockError> {
        // Dropped by a `?`, it is rolled back.
        let mut tx = self.scope.begin().await?;
        // First the product: moves of one product take turns here.
        let change = sqlx::query_scalar(CHANGE).bind(sku).bind(quantity);
        let on_hand: Option<i64> = change.fetch_optional(&mut tx).await?;
        let on_hand = on_hand.ok_or(StockError::NoSuchProduct)?;
        let record = sqlx::query_as(RECORD)
            .bind(sku)
            .bind(quantity)
            .bind(reference)
            .bind(self.written_by());
        let moved = record.fetch_one(&mut tx).await?;
        if quantity > 0 {
            sqlx::query(SETTLE).bind(sku).execute(&mut tx).await?;
        }
        tx.commit().await.map_err(|error| match error {
            CommitError::RolledBack(cause) => StockError::from(cause),
            _ => StockError::OutcomeUnknown,
        })?;
        Ok(Recorded { moved, on_hand })
    }

    async fn moves(&self, sku: &str) -> Result<Vec<Move>, StockError> {
        let moves = sqlx::query_as(MOVES).bind(sku);
        Ok(moves.fetch_all(&self.scope).await?)
    }

    async fn open_orders(&self) -> Result<Vec<Order>, StockError> {
        Ok(sqlx::query_as(OPEN_ORDERS).fetch_all(&self.scope).await?)
    }

    async fn low(&self) -> Result<Vec<Product>, StockError> {
        Ok(sqlx::query_as(LOW).fetch_all(&self.scope).await?)
    }

    async fn order(&self, sku: &str, quantity: i32) -> Result<bool, StockError> {
        let order = sqlx::query(ORDER)
            .bind(sku)
            .bind(quantity)
            .bind(self.written_by());
        let done = order.execute(&self.scope).await;
        Ok(done.map_err(StockError::of_write)?.rows_affected() == 1)
    }
}

// No statement says which tenant it is for, but for the canary that it leaves.

pub const PRODUCTS: &str =
    "SELECT sku, name, reorder_point, on_hand, written_by FROM products ORDER BY sku";

pub const PRODUCT: &str =
    "SELECT sku, name, reorder_point, on_hand, written_by FROM products WHERE sku = $1";

pub const ADD: &str =
    "INSERT INTO products (sku, name, reorder_point, written_by) VALUES ($1, $2, $3, $4)";

pub const CHANGE: &str =
    "UPDATE products SET on_hand = on_hand + $2 WHERE sku = $1 RETURNING on_hand";

pub const RECORD: &str = "INSERT INTO moves (sku, quantity, reference, written_by) \
    VALUES ($1, $2, $3, $4) RETURNING sku, quantity, reference, written_by";

pub const SETTLE: &str =
    "UPDATE orders SET received_at = now() WHERE sku = $1 AND received_at IS NULL";

pub const MOVES: &str = "SELECT sku, quantity, reference, written_by FROM moves WHERE sku = $1 \
    ORDER BY id DESC LIMIT 20";

pub const OPEN_ORDERS: &str =
    "SELECT sku, quantity, written_by FROM orders WHERE received_at IS NULL ORDER BY sku";

pub const LOW: &str = "SELECT sku, name, reorder_point, on_hand, written_by FROM products AS p \
    WHERE on_hand < reorder_point AND NOT EXISTS \
      (SELECT FROM orders AS o WHERE o.sku = p.sku AND o.received_at IS NULL)";

pub const ORDER: &str = "INSERT INTO orders (sku, quantity, written_by) VALUES ($1, $2, $3) \
    ON CONFLICT (sku) WHERE received_at IS NULL DO NOTHING";
