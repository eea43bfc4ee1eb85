//! Cases: what a practice works on.

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use serde::{Deserialize, Serialize};
use tenantry::repository::{
    Page, PageRequest, Pager, ReadRepository, WriteRepository, missed, stream_rows,
};
use tenantry::{Error, Reader, TenantTx};
use utoipa::ToSchema;
use uuid::Uuid;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, sqlx::FromRow, ToSchema)]
pub struct Case {
    pub id: Uuid,
    pub title: String,
    pub client: String,
    pub closed: bool,
    /// Grows with each change. Whoever changes or removes the case says which one was read.
    pub version: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NewCase {
    pub title: String,
    pub client: String,
}

/// The repository. It holds nothing: whose cases they are comes with each call.
pub struct PgCases;

#[async_trait]
impl ReadRepository for PgCases {
    type Id = Uuid;
    type Row = Case;

    async fn find(&self, mut reader: Reader<'_>, id: &Uuid) -> Result<Option<Case>, Error> {
        Ok(sqlx::query_as(FIND)
            .bind(id)
            .fetch_optional(&mut reader)
            .await?)
    }

    /// By title.
    async fn page(
        &self,
        mut reader: Reader<'_>,
        request: &PageRequest,
    ) -> Result<Page<Case>, Error> {
        let pager = Pager::<(String, Uuid)>::new(reader.context(), "cases by title", request)?;
        let query = match pager.after() {
            None => sqlx::query_as(FIRST),
            Some((title, id)) => sqlx::query_as(LATER).bind(title).bind(id),
        };
        let cases = query.bind(pager.fetch()).fetch_all(&mut reader).await?;
        pager.page(cases, |case: &Case| (case.title.clone(), case.id))
    }

    fn stream<'r>(&'r self, reader: Reader<'r>) -> BoxStream<'r, Result<Case, Error>> {
        stream_rows(reader, sqlx::query_as(ALL))
    }
}

#[async_trait]
impl WriteRepository for PgCases {
    type Draft = NewCase;

    async fn insert(&self, tx: &mut TenantTx, draft: &NewCase) -> Result<Case, Error> {
        let insert = sqlx::query_as(INSERT)
            .bind(&draft.title)
            .bind(&draft.client);
        Ok(insert.fetch_one(tx).await?)
    }

    async fn insert_many(&self, tx: &mut TenantTx, drafts: &[NewCase]) -> Result<u64, Error> {
        let titles: Vec<&str> = drafts.iter().map(|draft| &*draft.title).collect();
        let clients: Vec<&str> = drafts.iter().map(|draft| &*draft.client).collect();
        let insert = sqlx::query(INSERT_MANY).bind(titles).bind(clients);
        Ok(insert.execute(tx).await?.rows_affected())
    }

    async fn update(&self, tx: &mut TenantTx, case: &Case) -> Result<Case, Error> {
        let update = sqlx::query_as(UPDATE)
            .bind(case.id)
            .bind(case.version)
            .bind(&case.title)
            .bind(&case.client)
            .bind(case.closed);
        match update.fetch_optional(&mut *tx).await? {
            Some(case) => Ok(case),
            None => Err(missed(self, tx, &case.id).await),
        }
    }

    /// A client has one case of a title.
    async fn upsert(&self, tx: &mut TenantTx, draft: &NewCase) -> Result<Case, Error> {
        let upsert = sqlx::query_as(UPSERT)
            .bind(&draft.title)
            .bind(&draft.client);
        Ok(upsert.fetch_one(tx).await?)
    }

    async fn delete(&self, tx: &mut TenantTx, id: &Uuid, version: i64) -> Result<(), Error> {
        let delete = sqlx::query(DELETE).bind(id).bind(version);
        match delete.execute(&mut *tx).await?.rows_affected() {
            0 => Err(missed(self, tx, id).await),
            _ => Ok(()),
        }
    }
}

// No statement says which organisation it is for.

const FIND: &str = "SELECT id, title, client, closed, version FROM cases WHERE id = $1";

const ALL: &str = "SELECT id, title, client, closed, version FROM cases";

const FIRST: &str = "SELECT id, title, client, closed, version FROM cases \
    ORDER BY title, id LIMIT $1";

const LATER: &str = "SELECT id, title, client, closed, version FROM cases \
    WHERE (title, id) > ($1, $2) ORDER BY title, id LIMIT $3";

const INSERT: &str = "INSERT INTO cases (title, client) VALUES ($1, $2) \
    RETURNING id, title, client, closed, version";

const INSERT_MANY: &str = "INSERT INTO cases (title, client) \
    SELECT * FROM unnest($1::text[], $2::text[])";

const UPDATE: &str = "UPDATE cases SET title = $3, client = $4, closed = $5, version = version + 1 \
    WHERE id = $1 AND version = $2 RETURNING id, title, client, closed, version";

const UPSERT: &str = "INSERT INTO cases AS c (title, client) VALUES ($1, $2) \
    ON CONFLICT ON CONSTRAINT one_case_a_title \
    DO UPDATE SET closed = false, version = c.version + 1 \
    RETURNING id, title, client, closed, version";

const DELETE: &str = "DELETE FROM cases WHERE id = $1 AND version = $2";
