//! The same repository with its tenant written into each statement, on a table without policies,
//! and with one flaw: the specimens that the checks must be red on.

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use sqlx::AssertSqlSafe;
use tenantry::repository::{
    Direction, Page, PageRequest, Pager, ReadRepository, WriteRepository, missed,
};
use tenantry::{Error, Reader, TenantContext, TenantTx};

use super::cases::{Case, NewCase};

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    // The tenant was left out of one method.
    Find,
    Get,
    FirstPage,
    LaterPage,
    Stream,
    Insert,
    InsertMany,
    Update,
    Upsert,
    Delete,
    // The rest.
    Offset,
    NoTieBreaker,
    OneDirection,
    NoLimit,
    SkipsOne,
    AnyonesCursor,
    AnyOrdersCursor,
    BrokenCursorIsNone,
    UpdateOfAnyVersion,
    DeleteOfAnyVersion,
    SilentlyNotFound,
    UpsertKeepsVersion,
    SwallowsConflict,
    OneByOne,
    NoConstraint,
}

pub(crate) struct Flawed(pub(crate) Flaw);

const COLUMNS: &str = "id, code, title, due, version";

impl Flawed {
    fn has(&self, flaw: Flaw) -> bool {
        self.0 == flaw
    }

    /// Whose rows a statement is for, unless that was forgotten.
    fn mine(&self, forgotten: Flaw) -> &'static str {
        match self.has(forgotten) {
            true => "true",
            false => "tenant_id = current_setting('app.tenant_id')",
        }
    }

    /// Whose row is made, or the one that some global variable says.
    fn owner(&self, forgotten: Flaw) -> &'static str {
        match self.has(forgotten) {
            true => "'a'",
            false => "current_setting('app.tenant_id')",
        }
    }

    /// What a caller is told of an error, of which the constraint may be lost.
    fn fails(&self, error: sqlx::Error) -> Error {
        match self.has(Flaw::NoConstraint) {
            true => sqlx::Error::Protocol("something went wrong".to_owned()).into(),
            false => error.into(),
        }
    }
}

#[async_trait]
impl ReadRepository for Flawed {
    type Id = i64;
    type Row = Case;

    async fn find(&self, mut reader: Reader<'_>, id: &i64) -> Result<Option<Case>, Error> {
        let mine = self.mine(Flaw::Find);
        let text = format!("SELECT {COLUMNS} FROM cases WHERE id = $1 AND {mine}");
        let case = sqlx::query_as(AssertSqlSafe(text)).bind(id);
        Ok(case.fetch_optional(&mut reader).await?)
    }

    async fn get(&self, mut reader: Reader<'_>, id: &i64) -> Result<Case, Error> {
        let mine = self.mine(Flaw::Get);
        let text = format!("SELECT {COLUMNS} FROM cases WHERE id = $1 AND {mine}");
        let case = sqlx::query_as(AssertSqlSafe(text)).bind(id);
        Ok(case.fetch_one(&mut reader).await?)
    }

    async fn page(
        &self,
        mut reader: Reader<'_>,
        request: &PageRequest,
    ) -> Result<Page<Case>, Error> {
        let order = request.order_among(&["due", "title"])?;
        let nobody = TenantContext::new("nobody".parse::<tenantry::TenantId>()?);
        let context = match self.has(Flaw::AnyonesCursor) {
            true => &nobody,
            false => reader.context(),
        };
        let mut asked = request.clone();
        let wanted = request.direction();
        if self.has(Flaw::AnyOrdersCursor) {
            asked = PageRequest::default()
                .limit(request.rows())
                .after(request.cursor().cloned());
        }
        type Place = (String, i64, i64);
        let pager = match Pager::<Place>::new(context, "cases", &asked) {
            Err(_) if self.has(Flaw::BrokenCursorIsNone) => {
                asked = asked.after(None);
                Pager::<Place>::new(context, "cases", &asked)?
            }
            pager => pager?,
        };
        let is_descending = wanted == Direction::Descending && !self.has(Flaw::OneDirection);
        let (than, by) = if is_descending {
            ("<", "DESC")
        } else {
            (">", "ASC")
        };
        // As a text that is in the order of the numbers.
        let key = if order == "title" {
            "title"
        } else {
            "lpad(due::text, 20, '0')"
        };
        let tie = if self.has(Flaw::NoTieBreaker) {
            "0::bigint"
        } else {
            "id"
        };
        let limit = if self.has(Flaw::NoLimit) {
            1_000_000
        } else {
            pager.fetch()
        };
        let mine = self.mine(match pager.after() {
            None => Flaw::FirstPage,
            Some(_) => Flaw::LaterPage,
        });
        let (last_key, last_id, seen) = pager.after().cloned().unwrap_or_default();
        let is_first = pager.after().is_none();
        let offset = if self.has(Flaw::Offset) { seen } else { 0 };
        let skipped = i64::from(self.has(Flaw::SkipsOne) && !is_first);
        let text = format!(
            "SELECT {COLUMNS} FROM cases WHERE {mine} \
             AND ({is_first} OR {by_offset} OR ({key}, {tie}) {than} ($1, $2)) \
             ORDER BY {key} {by}, {tie} {by} LIMIT $3 OFFSET $4",
            by_offset = self.has(Flaw::Offset),
        );
        let cases = sqlx::query_as(AssertSqlSafe(text))
            .bind(last_key)
            .bind(last_id)
            .bind(limit)
            .bind(offset + skipped);
        let cases: Vec<Case> = cases.fetch_all(&mut reader).await?;
        let place = |case: &Case| {
            let key = match order {
                "title" => case.title.clone(),
                _ => format!("{:0>20}", case.due),
            };
            let id = if self.has(Flaw::NoTieBreaker) {
                0
            } else {
                case.id
            };
            (key, id, seen + i64::from(request.rows()))
        };
        if self.has(Flaw::NoLimit) {
            return Ok(Page::new(cases, None));
        }
        pager.page(cases, place)
    }

    fn stream<'r>(&'r self, reader: Reader<'r>) -> BoxStream<'r, Result<Case, Error>> {
        Box::pin(async_stream::stream! {
            let mut reader = reader;
            let mine = self.mine(Flaw::Stream);
            let text = format!("SELECT {COLUMNS} FROM cases WHERE {mine}");
            let mut cases = sqlx::query_as(AssertSqlSafe(text)).fetch(&mut reader);
            while let Some(case) = cases.next().await {
                yield case.map_err(Error::from);
            }
        })
    }
}

#[async_trait]
impl WriteRepository for Flawed {
    type Draft = NewCase;

    async fn insert(&self, tx: &mut TenantTx, draft: &NewCase) -> Result<Case, Error> {
        let owner = self.owner(Flaw::Insert);
        let ignore = match self.has(Flaw::SwallowsConflict) {
            true => "ON CONFLICT (tenant_id, code) DO UPDATE SET title = excluded.title",
            false => "",
        };
        let text = format!(
            "INSERT INTO cases (tenant_id, code, title, due) VALUES ({owner}, $1, $2, $3) {ignore} \
             RETURNING {COLUMNS}"
        );
        let case = sqlx::query_as(AssertSqlSafe(text));
        let case = case.bind(&draft.code).bind(&draft.title).bind(draft.due);
        case.fetch_one(tx).await.map_err(|error| self.fails(error))
    }

    async fn insert_many(&self, tx: &mut TenantTx, drafts: &[NewCase]) -> Result<u64, Error> {
        if self.has(Flaw::OneByOne) {
            let mut made = 0;
            for draft in drafts {
                let mut savepoint = tx.savepoint().await?;
                match self.insert(&mut savepoint, draft).await {
                    Ok(_) => savepoint.release().await?,
                    Err(_) => savepoint.rollback().await?,
                }
                made += 1;
            }
            return Ok(made);
        }
        let owner = self.owner(Flaw::InsertMany);
        let text = format!(
            "INSERT INTO cases (tenant_id, code, title, due) \
             SELECT {owner}, * FROM unnest($1::text[], $2::text[], $3::bigint[])"
        );
        let codes: Vec<_> = drafts.iter().map(|draft| &*draft.code).collect();
        let titles: Vec<_> = drafts.iter().map(|draft| &*draft.title).collect();
        let dues: Vec<_> = drafts.iter().map(|draft| draft.due).collect();
        let cases = sqlx::query(AssertSqlSafe(text))
            .bind(codes)
            .bind(titles)
            .bind(dues);
        let done = cases.execute(tx).await.map_err(|error| self.fails(error))?;
        Ok(done.rows_affected())
    }

    async fn update(&self, tx: &mut TenantTx, case: &Case) -> Result<Case, Error> {
        let mine = self.mine(Flaw::Update);
        let any = self.has(Flaw::UpdateOfAnyVersion);
        let text = format!(
            "UPDATE cases SET title = $3, due = $4, version = version + 1 \
             WHERE id = $1 AND ({any} OR version = $2) AND {mine} RETURNING {COLUMNS}"
        );
        let update = sqlx::query_as(AssertSqlSafe(text))
            .bind(case.id)
            .bind(case.version);
        let update = update.bind(&case.title).bind(case.due);
        match update.fetch_optional(&mut *tx).await? {
            Some(case) => Ok(case),
            None if self.has(Flaw::SilentlyNotFound) => Ok(case.clone()),
            None => Err(missed(self, tx, &case.id).await),
        }
    }

    async fn upsert(&self, tx: &mut TenantTx, draft: &NewCase) -> Result<Case, Error> {
        let owner = self.owner(Flaw::Upsert);
        let step = i64::from(!self.has(Flaw::UpsertKeepsVersion));
        let text = format!(
            "INSERT INTO cases AS c (tenant_id, code, title, due) VALUES ({owner}, $1, $2, $3) \
             ON CONFLICT (tenant_id, code) DO UPDATE \
             SET title = excluded.title, due = excluded.due, version = c.version + {step} \
             RETURNING {COLUMNS}"
        );
        let case = sqlx::query_as(AssertSqlSafe(text));
        let case = case.bind(&draft.code).bind(&draft.title).bind(draft.due);
        Ok(case.fetch_one(tx).await?)
    }

    async fn delete(&self, tx: &mut TenantTx, id: &i64, version: i64) -> Result<(), Error> {
        let mine = self.mine(Flaw::Delete);
        let any = self.has(Flaw::DeleteOfAnyVersion);
        let text =
            format!("DELETE FROM cases WHERE id = $1 AND ({any} OR version = $2) AND {mine}");
        let delete = sqlx::query(AssertSqlSafe(text)).bind(id).bind(version);
        match delete.execute(&mut *tx).await?.rows_affected() {
            0 => Err(missed(self, tx, id).await),
            _ => Ok(()),
        }
    }
}
