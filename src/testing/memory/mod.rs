//! The double of a repository.

mod store;
mod table;
mod violation;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_core::stream::BoxStream;

use crate::context::TenantContext;
use crate::error::Error;
use crate::reader::Reader;
use crate::repository::{
    Direction, Page, PageRequest, Pager, ReadRepository, Versioned as _, WriteRepository,
};
use crate::tx::{TenantTx, nobody_commits};

use store::{Change, Rows, Staged, Store};

pub use table::{MemoryTable, SortKey};

/// A repository in memory, for unit tests without a server; see
/// [`detached_scope`](super::detached_scope).
///
/// It keeps tenants apart as the database does: by the tenant of the scope or the transaction that
/// a method is given. It is put through the same
/// [conformance checks](super::conformance) as an implementation over PostgreSQL.
///
/// A clone has the same rows. Rows are gone with the last clone.
///
/// ```
/// use tenantry::repository::{ReadRepository as _, Versioned, WriteRepository as _};
/// use tenantry::testing::{MemoryRepository, MemoryTable, SortKey, detached_scope};
/// use tenantry::{TenantContext, TenantId};
///
/// #[derive(Clone)]
/// struct Client {
///     id: i64,
///     name: String,
///     version: i64,
/// }
///
/// impl Versioned for Client {
///     type Id = i64;
///
///     fn id(&self) -> i64 {
///         self.id
///     }
///
///     fn version(&self) -> i64 {
///         self.version
///     }
/// }
///
/// struct Clients;
///
/// impl MemoryTable for Clients {
///     type Id = i64;
///     type Row = Client;
///     type Draft = String;
///
///     fn insert(&self, _: &TenantContext, name: &String, id: i64) -> Client {
///         let name = name.clone();
///         Client { id, name, version: 1 }
///     }
///
///     fn update(&self, old: &Client, new: &Client) -> Client {
///         Client { version: old.version + 1, ..new.clone() }
///     }
///
///     fn upsert(&self, old: &Client, _: &String) -> Client {
///         Client { version: old.version + 1, ..old.clone() }
///     }
///
///     fn unique(&self, client: &Client) -> Vec<(&'static str, Vec<SortKey>)> {
///         vec![("one_client_a_name", vec![client.name.as_str().into()])]
///     }
///
///     fn sort_key(&self, _: &str, client: &Client) -> Vec<SortKey> {
///         vec![client.name.as_str().into()]
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tenantry::Error> {
/// let clients = MemoryRepository::new(Clients);
/// let acme = detached_scope("acme".parse::<TenantId>()?)?;
/// let other = detached_scope("other".parse::<TenantId>()?)?;
///
/// let mut tx = acme.begin().await?;
/// let client = clients.insert(&mut tx, &"Ada".to_owned()).await?;
/// assert!(clients.find((&acme).into(), &client.id).await?.is_none(), "not committed");
/// tx.commit().await?;
/// assert!(clients.find((&acme).into(), &client.id).await?.is_some());
/// assert!(clients.find((&other).into(), &client.id).await?.is_none(), "not theirs");
/// # Ok(())
/// # }
/// ```
pub struct MemoryRepository<T: MemoryTable> {
    store: Arc<Store<T>>,
}

impl<T: MemoryTable> MemoryRepository<T> {
    /// An empty one.
    pub fn new(table: T) -> Self {
        Self {
            store: Arc::new(Store::new(table)),
        }
    }

    /// The rows as the reader sees them: what is committed, and what its transaction has done.
    async fn seen(&self, mut reader: Reader<'_>) -> Result<Rows<T>, Error> {
        let tenant = reader.context().tenant().clone();
        let staged = match reader.tx() {
            None => None,
            Some(tx) => {
                tx.part(|staged: &Staged<T>| staged.is_of(&self.store))
                    .await?
            }
        };
        let _snapshot = nobody_commits();
        let mut rows = self.store.rows(&tenant);
        if let Some(staged) = staged {
            staged.lay_over(&mut rows);
        }
        Ok(rows)
    }

    /// Makes changes of what is there, all of them or none, and stages them in the transaction.
    async fn write<R>(
        &self,
        tx: &mut TenantTx,
        decide: impl FnOnce(&Store<T>, &TenantContext, &Rows<T>) -> Result<(Vec<Change<T>>, R), Error>,
    ) -> Result<R, Error> {
        let context = tx.context().clone();
        let join = || Staged::new(&self.store, context.tenant());
        let is_its = |staged: &Staged<T>| staged.is_of(&self.store);
        let (staged, depth) = tx.part_mut(is_its, join).await?;
        let done = {
            let _snapshot = nobody_commits();
            let mut rows = self.store.rows(context.tenant());
            staged.lay_over(&mut rows);
            decide(&self.store, &context, &rows).and_then(|(changes, answer)| {
                self.store.try_all(&mut rows, &changes)?;
                staged.add(depth, changes);
                Ok(answer)
            })
        };
        done.inspect_err(|error| tx.fails(error))
    }
}

#[async_trait]
impl<T: MemoryTable> ReadRepository for MemoryRepository<T> {
    type Id = T::Id;
    type Row = T::Row;

    async fn find(&self, reader: Reader<'_>, id: &T::Id) -> Result<Option<T::Row>, Error> {
        Ok(self.seen(reader).await?.remove(id))
    }

    async fn page(&self, reader: Reader<'_>, request: &PageRequest) -> Result<Page<T::Row>, Error> {
        let table = &self.store.table;
        let order = request.order_among(table.orders())?;
        let list = std::any::type_name::<T>();
        let pager = Pager::<Vec<SortKey>>::new(reader.context(), list, request)?;
        let place = |row: &T::Row| {
            let mut place = table.sort_key(order, row);
            place.push(row.id().into());
            place
        };
        let rows = self.seen(reader).await?;
        let mut rows: Vec<_> = rows.into_values().map(|row| (place(&row), row)).collect();
        rows.sort_by(|one, other| one.0.cmp(&other.0));
        if pager.direction() == Direction::Descending {
            rows.reverse();
        }
        let is_behind = |place: &Vec<SortKey>| match (pager.after(), pager.direction()) {
            (None, _) => true,
            (Some(after), Direction::Descending) => place < after,
            (Some(after), Direction::Ascending) => place > after,
        };
        let rows = rows.into_iter().filter(|(place, _)| is_behind(place));
        let rows = rows.map(|(_, row)| row).take(pager.fetch() as usize);
        pager.page(rows.collect(), place)
    }

    fn stream<'r>(&'r self, reader: Reader<'r>) -> BoxStream<'r, Result<T::Row, Error>> {
        Box::pin(async_stream::try_stream! {
            for row in self.seen(reader).await?.into_values() {
                yield row;
            }
        })
    }
}

#[async_trait]
impl<T: MemoryTable> WriteRepository for MemoryRepository<T> {
    type Draft = T::Draft;

    async fn insert(&self, tx: &mut TenantTx, draft: &T::Draft) -> Result<T::Row, Error> {
        self.write(tx, |store, context, _| {
            let row = store.insert(context, draft);
            Ok((vec![Change::Insert(row.clone())], row))
        })
        .await
    }

    async fn insert_many(&self, tx: &mut TenantTx, drafts: &[T::Draft]) -> Result<u64, Error> {
        self.write(tx, |store, context, _| {
            let rows = drafts.iter().map(|draft| store.insert(context, draft));
            Ok((rows.map(Change::Insert).collect(), drafts.len() as u64))
        })
        .await
    }

    async fn update(&self, tx: &mut TenantTx, row: &T::Row) -> Result<T::Row, Error> {
        self.write(tx, |store, _, rows| {
            let from = row.version();
            let old = store::versioned(rows, &row.id(), from)?;
            let row = store.table.update(old, row);
            Ok((
                vec![Change::Update {
                    row: row.clone(),
                    from,
                }],
                row,
            ))
        })
        .await
    }

    async fn upsert(&self, tx: &mut TenantTx, draft: &T::Draft) -> Result<T::Row, Error> {
        self.write(tx, |store, context, rows| {
            let row = store.insert(context, draft);
            let Some(old) = store.met_by(rows, &row) else {
                return Ok((vec![Change::Insert(row.clone())], row));
            };
            let (row, from) = (store.table.upsert(old, draft), old.version());
            Ok((
                vec![Change::Update {
                    row: row.clone(),
                    from,
                }],
                row,
            ))
        })
        .await
    }

    async fn delete(&self, tx: &mut TenantTx, id: &T::Id, version: i64) -> Result<(), Error> {
        self.write(tx, |_, _, rows| {
            store::versioned(rows, id, version)?;
            let (id, from) = (id.clone(), version);
            Ok((vec![Change::Delete { id, from }], ()))
        })
        .await
    }
}

impl<T: MemoryTable> Clone for MemoryRepository<T> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
        }
    }
}

impl<T: MemoryTable + Default> Default for MemoryRepository<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: MemoryTable> fmt::Debug for MemoryRepository<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryRepository").finish_non_exhaustive()
    }
}
