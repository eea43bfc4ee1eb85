//! What lies in the databases when all is over, row by row.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use tenantry::TenantId;

use crate::ledger::{Entry, Fate, Ledger};
use crate::operation::author;
use crate::server::Databases;
use crate::stock::{Move, Order, Product};

/// All rows of a database.
#[derive(Clone, Default)]
pub struct Rows {
    pub products: Vec<Product>,
    pub moves: Vec<Move>,
    pub orders: Vec<Order>,
}

#[derive(Debug, Default)]
pub struct Found {
    pub databases: u64,
    pub rows: u64,
    /// Rows that were written for another tenant.
    pub foreign: u64,
    pub acknowledged: u64,
    /// Writes that were acknowledged and are not where they belong.
    pub missing: u64,
    pub unknown: u64,
    /// Of those whose outcome nobody heard, how many were kept.
    pub unknown_kept: u64,
    /// All that is not as it should be, foreign rows aside.
    pub wrong: Vec<String>,
}

pub async fn check(databases: &Databases, ledger: &Ledger) -> Found {
    let mut found = Found::default();
    for tenant in databases.tenants() {
        let mut admin = databases
            .as_admin(tenant)
            .connect()
            .await
            .expect("the superuser connects");
        let role = databases.as_app(tenant);
        until_alone(&mut admin, role.get_username()).await;
        let rows = Rows::read(&mut admin).await.expect("all rows");
        admin.close().await.expect("closed");
        found.add(judge(tenant, &rows, ledger.of(tenant)));
    }
    found
}

/// What was given up half-way may be ending still; but nobody may hold on to a connection.
async fn until_alone(admin: &mut PgConnection, role: &str) {
    const SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity \
        WHERE datname = current_database() AND usename = $1";
    let gone = async {
        while let 1.. = sqlx::query_scalar::<_, i64>(SESSIONS)
            .bind(role)
            .fetch_one(&mut *admin)
            .await
            .expect("a count")
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone)
        .await
        .expect("no connection is left open");
}

impl Rows {
    pub const TABLES: [&str; 3] = ["products", "moves", "orders"];

    async fn read(admin: &mut PgConnection) -> Result<Self, sqlx::Error> {
        Ok(Self {
            products: sqlx::query_as("SELECT * FROM products")
                .fetch_all(&mut *admin)
                .await?,
            moves: sqlx::query_as("SELECT * FROM moves")
                .fetch_all(&mut *admin)
                .await?,
            orders: sqlx::query_as("SELECT * FROM orders")
                .fetch_all(&mut *admin)
                .await?,
        })
    }
}

/// The database of `tenant`, against what its clients know of what they `wrote`.
fn judge(tenant: &TenantId, rows: &Rows, mut wrote: HashMap<String, Entry>) -> Found {
    let mut found = Found {
        databases: 1,
        rows: (rows.products.len() + rows.moves.len() + rows.orders.len()) as u64,
        ..Found::default()
    };
    for entry in wrote.values() {
        match entry.fate {
            Fate::Acknowledged => found.acknowledged += 1,
            Fate::Unknown => found.unknown += 1,
            Fate::Refused => {}
        }
    }
    let mut levels: HashMap<&str, i64> = HashMap::new();
    for moved in &rows.moves {
        *levels.entry(&moved.sku).or_default() += i64::from(moved.quantity);
        if author(moved) != Some(tenant.as_str()) {
            found.foreign += 1;
        } else if !moved.reference.contains("/opening/") {
            let kept = (&*moved.sku, Some(moved.quantity));
            found.settle(tenant, &moved.reference, kept, &mut wrote);
        }
    }
    for product in &rows.products {
        let level = levels.remove(&*product.sku).unwrap_or_default();
        if level != product.on_hand {
            found.wrong.push(format!(
                "{tenant} has {} of {}, and its moves come to {level}",
                product.on_hand, product.sku
            ));
        }
        if product.written_by != tenant.as_str() {
            found.foreign += 1;
        } else if product.sku.starts_with("new-") {
            found.settle(tenant, &product.name, (&product.sku, None), &mut wrote);
        }
    }
    for order in &rows.orders {
        found.foreign += u64::from(order.written_by != tenant.as_str());
    }
    for (reference, entry) in wrote {
        if entry.fate == Fate::Acknowledged {
            found.missing += 1;
            let finding = format!("{reference} was acknowledged and is not at {tenant}'s");
            found.wrong.push(finding);
        }
    }
    found
}

impl Found {
    /// A row of the tenant's own must be one that its clients wrote, once, and as they wrote it.
    fn settle(
        &mut self,
        tenant: &TenantId,
        reference: &str,
        kept: (&str, Option<i32>),
        wrote: &mut HashMap<String, Entry>,
    ) {
        let entry = wrote.remove(reference);
        match &entry {
            Some(entry) if (&*entry.sku, entry.quantity) == kept && entry.fate != Fate::Refused => {
                self.unknown_kept += u64::from(entry.fate == Fate::Unknown);
            }
            _ => {
                let finding = format!("{tenant} has {reference} as {kept:?}, and it is {entry:?}");
                self.wrong.push(finding);
            }
        }
    }

    fn add(&mut self, other: Self) {
        self.databases += other.databases;
        self.rows += other.rows;
        self.foreign += other.foreign;
        self.acknowledged += other.acknowledged;
        self.missing += other.missing;
        self.unknown += other.unknown;
        self.unknown_kept += other.unknown_kept;
        self.wrong.extend(other.wrong);
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "in {} databases: {} writes acknowledged, {} of them missing; {} of unknown outcome, \
             {} of them kept; foreign rows in databases: {} of {}",
            self.databases,
            self.acknowledged,
            self.missing,
            self.unknown,
            self.unknown_kept,
            self.foreign,
            self.rows,
        )
    }
}

#[test]
fn the_checker_sees_what_is_wrong() {
    let tenant: TenantId = "acme".parse().expect("a tenant");
    let good = Rows {
        products: vec![product("sku-1", 3, "acme"), product("new-9", 0, "acme")],
        moves: vec![moved(5, "acme/1", "acme"), moved(-2, "acme/2", "acme")],
        orders: vec![order("acme")],
    };
    let wrote = |fates: [Fate; 3]| {
        let entries = [Some(5), Some(-2), None].into_iter().zip(fates);
        let entries = entries.zip(["acme/1", "acme/2", "acme/new-9"]);
        let entry = |((quantity, fate), reference): ((Option<i32>, Fate), &str)| {
            let entry = Entry {
                tenant: tenant.clone(),
                sku: if quantity.is_some() { "sku-1" } else { "new-9" }.to_owned(),
                quantity,
                fate,
            };
            (reference.to_owned(), entry)
        };
        entries.map(entry).collect::<HashMap<_, _>>()
    };
    let heard = [Fate::Acknowledged; 3];
    let verdict = |rows: &Rows, fates| {
        let found = judge(&tenant, rows, wrote(fates));
        (found.foreign, found.missing, found.wrong.len())
    };
    assert_eq!(verdict(&good, heard), (0, 0, 0));
    let unknown = judge(&tenant, &good, wrote([Fate::Unknown; 3]));
    assert_eq!((unknown.unknown_kept, unknown.wrong.len()), (3, 0));

    let with = |change: fn(&mut Rows)| {
        let mut rows = good.clone();
        change(&mut rows);
        rows
    };
    let foreign_product = with(|rows| rows.products.push(product("sku-7", 0, "globex")));
    let foreign_order = with(|rows| rows.orders.push(order("globex")));
    // The server says that it is ours, the client that it is not, and the other way round.
    let foreign_by_client = with(|rows| {
        rows.moves.push(moved(1, "globex/7", "acme"));
        rows.products[0].on_hand += 1;
    });
    let foreign_by_server = with(|rows| {
        rows.moves.push(moved(1, "acme/7", "globex"));
        rows.products[0].on_hand += 1;
    });
    for rows in [
        foreign_product,
        foreign_order,
        foreign_by_client,
        foreign_by_server,
    ] {
        assert_eq!(verdict(&rows, heard), (1, 0, 0));
    }

    let missing = with(|rows| {
        rows.moves.pop();
        rows.products[0].on_hand += 2;
    });
    assert_eq!(verdict(&missing, heard), (0, 1, 1));
    let lost = [Fate::Acknowledged, Fate::Unknown, Fate::Acknowledged];
    assert_eq!(verdict(&missing, lost), (0, 0, 0));

    let refused = [Fate::Acknowledged, Fate::Refused, Fate::Acknowledged];
    assert_eq!(verdict(&good, refused), (0, 0, 1));
    let miscounted = with(|rows| rows.products[0].on_hand += 1);
    assert_eq!(verdict(&miscounted, heard), (0, 0, 1));
    let unexplained = with(|rows| rows.moves.push(moved(1, "acme/7", "acme")));
    assert_eq!(verdict(&unexplained, heard), (0, 0, 2));
    let altered = with(|rows| {
        rows.moves[0].quantity = 6;
        rows.products[0].on_hand = 4;
    });
    assert_eq!(verdict(&altered, heard), (0, 0, 1));
}

fn product(sku: &str, on_hand: i64, written_by: &str) -> Product {
    Product {
        sku: sku.to_owned(),
        name: format!("acme/{sku}"),
        reorder_point: 0,
        on_hand,
        written_by: written_by.to_owned(),
    }
}

fn moved(quantity: i32, reference: &str, written_by: &str) -> Move {
    Move {
        sku: "sku-1".to_owned(),
        quantity,
        reference: reference.to_owned(),
        written_by: written_by.to_owned(),
    }
}

fn order(written_by: &str) -> Order {
    Order {
        sku: "sku-1".to_owned(),
        quantity: 1,
        written_by: written_by.to_owned(),
    }
}
