//! Publications: which changes whoever subscribes is sent.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::id::Id;
use crate::error::Error;

#[derive(Clone, Debug)]
pub(in crate::audit) struct Publication {
    /// Quoted where SQL needs it.
    pub(in crate::audit) display: String,
    pub(in crate::audit) owner: Id,
    /// Of all tables, those that are made later, too.
    pub(in crate::audit) of_all: bool,
    pub(in crate::audit) tables: Vec<Published>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::audit) struct Published {
    pub(in crate::audit) table: Id,
    /// Whether only some rows are sent, from PostgreSQL 15 on.
    pub(in crate::audit) filtered: bool,
}

#[derive(sqlx::FromRow)]
struct Row {
    oid: Id,
    display: String,
    owner: Id,
    of_all: bool,
    relation: Id,
    filtered: bool,
}

/// Those that send any table. Which these are the server says, whether they are named one by one or
/// by their schema. The filter is read by way of JSON, so that one text is for all versions.
pub(super) async fn publications(connection: &mut PgConnection) -> Result<Vec<Publication>, Error> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT p.oid, quote_ident(p.pubname) AS display, p.pubowner AS owner, p.puballtables AS of_all, c.oid AS relation, \
           to_jsonb(t)->>'rowfilter' IS NOT NULL AS filtered \
         FROM pg_publication AS p JOIN pg_publication_tables AS t ON t.pubname = p.pubname \
           JOIN pg_namespace AS n ON n.nspname = t.schemaname JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = t.tablename \
         ORDER BY p.oid, c.oid",
    )
    .persistent(false)
    .fetch_all(connection)
    .await?;
    let mut publications: BTreeMap<Id, Publication> = BTreeMap::new();
    for row in rows {
        let publication = publications.entry(row.oid).or_insert_with(|| Publication {
            display: row.display,
            owner: row.owner,
            of_all: row.of_all,
            tables: Vec::new(),
        });
        publication.tables.push(Published {
            table: row.relation,
            filtered: row.filtered,
        });
    }
    Ok(publications.into_values().collect())
}
