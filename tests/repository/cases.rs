//! A repository as one writes it: plain sqlx, and the helpers of the crate.

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use tenantry::repository::{
    Direction, Page, PageRequest, Pager, ReadRepository, Versioned, WriteRepository, missed,
    stream_rows,
};
use tenantry::testing::conformance::Subject;
use tenantry::testing::{MemoryTable, SortKey};
use tenantry::{Error, Reader, TenantContext, TenantTx};

#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub(crate) struct Case {
    pub(crate) id: i64,
    pub(crate) code: String,
    pub(crate) title: String,
    pub(crate) due: i64,
    pub(crate) version: i64,
}

#[derive(Clone, Debug)]
pub(crate) struct NewCase {
    pub(crate) code: String,
    pub(crate) title: String,
    pub(crate) due: i64,
}

impl Versioned for Case {
    type Id = i64;

    fn id(&self) -> i64 {
        self.id
    }

    fn version(&self) -> i64 {
        self.version
    }
}

/// The table, without its policies.
pub(crate) const TABLE: &str = "CREATE TABLE cases ( \
       id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
       code text NOT NULL, \
       title text NOT NULL, \
       due bigint NOT NULL, \
       version bigint NOT NULL DEFAULT 1 \
     )";

pub(crate) const UNIQUE: &str =
    "ALTER TABLE cases ADD CONSTRAINT one_case_a_code UNIQUE (tenant_id, code)";

/// Over PostgreSQL.
pub(crate) struct Cases;

#[async_trait]
impl ReadRepository for Cases {
    type Id = i64;
    type Row = Case;

    async fn find(&self, mut reader: Reader<'_>, id: &i64) -> Result<Option<Case>, Error> {
        let case = sqlx::query_as("SELECT id, code, title, due, version FROM cases WHERE id = $1");
        Ok(case.bind(id).fetch_optional(&mut reader).await?)
    }

    async fn page(
        &self,
        mut reader: Reader<'_>,
        request: &PageRequest,
    ) -> Result<Page<Case>, Error> {
        if request.order_among(&["due", "title"])? == "title" {
            let pager = Pager::<(String, i64)>::new(reader.context(), "cases", request)?;
            let [first, later] = text(BY_TITLE, pager.direction());
            let cases = match pager.after() {
                None => sqlx::query_as(first),
                Some((title, id)) => sqlx::query_as(later).bind(title).bind(id),
            };
            let cases = cases.bind(pager.fetch()).fetch_all(&mut reader).await?;
            return pager.page(cases, |case: &Case| (case.title.clone(), case.id));
        }
        let pager = Pager::<(i64, i64)>::new(reader.context(), "cases", request)?;
        let [first, later] = text(BY_DUE, pager.direction());
        let cases = match pager.after() {
            None => sqlx::query_as(first),
            Some((due, id)) => sqlx::query_as(later).bind(due).bind(id),
        };
        let cases = cases.bind(pager.fetch()).fetch_all(&mut reader).await?;
        pager.page(cases, |case: &Case| (case.due, case.id))
    }

    fn stream<'r>(&'r self, reader: Reader<'r>) -> BoxStream<'r, Result<Case, Error>> {
        let cases = sqlx::query_as("SELECT id, code, title, due, version FROM cases ORDER BY id");
        stream_rows(reader, cases)
    }
}

#[async_trait]
impl WriteRepository for Cases {
    type Draft = NewCase;

    async fn insert(&self, tx: &mut TenantTx, draft: &NewCase) -> Result<Case, Error> {
        let case = sqlx::query_as(
            "INSERT INTO cases (code, title, due) VALUES ($1, $2, $3) \
             RETURNING id, code, title, due, version",
        );
        let case = case.bind(&draft.code).bind(&draft.title).bind(draft.due);
        Ok(case.fetch_one(tx).await?)
    }

    async fn insert_many(&self, tx: &mut TenantTx, drafts: &[NewCase]) -> Result<u64, Error> {
        let codes: Vec<_> = drafts.iter().map(|draft| &*draft.code).collect();
        let titles: Vec<_> = drafts.iter().map(|draft| &*draft.title).collect();
        let dues: Vec<_> = drafts.iter().map(|draft| draft.due).collect();
        let cases = sqlx::query(
            "INSERT INTO cases (code, title, due) \
             SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])",
        );
        let cases = cases.bind(codes).bind(titles).bind(dues);
        Ok(cases.execute(tx).await?.rows_affected())
    }

    async fn update(&self, tx: &mut TenantTx, case: &Case) -> Result<Case, Error> {
        let update = sqlx::query_as(
            "UPDATE cases SET title = $3, due = $4, version = version + 1 \
             WHERE id = $1 AND version = $2 RETURNING id, code, title, due, version",
        );
        let update = update.bind(case.id).bind(case.version);
        let update = update.bind(&case.title).bind(case.due);
        match update.fetch_optional(&mut *tx).await? {
            Some(case) => Ok(case),
            None => Err(missed(self, tx, &case.id).await),
        }
    }

    async fn upsert(&self, tx: &mut TenantTx, draft: &NewCase) -> Result<Case, Error> {
        let case = sqlx::query_as(
            "INSERT INTO cases AS c (code, title, due) VALUES ($1, $2, $3) \
             ON CONFLICT (tenant_id, code) DO UPDATE \
             SET title = excluded.title, due = excluded.due, version = c.version + 1 \
             RETURNING id, code, title, due, version",
        );
        let case = case.bind(&draft.code).bind(&draft.title).bind(draft.due);
        Ok(case.fetch_one(tx).await?)
    }

    async fn delete(&self, tx: &mut TenantTx, id: &i64, version: i64) -> Result<(), Error> {
        let delete = sqlx::query("DELETE FROM cases WHERE id = $1 AND version = $2");
        let done = delete.bind(id).bind(version).execute(&mut *tx).await?;
        match done.rows_affected() {
            0 => Err(missed(self, tx, id).await),
            _ => Ok(()),
        }
    }
}

/// The texts of the first and of later pages, upwards and downwards.
type Texts = [[&'static str; 2]; 2];

fn text(texts: Texts, direction: Direction) -> [&'static str; 2] {
    match direction {
        Direction::Descending => texts[1],
        _ => texts[0],
    }
}

const BY_DUE: Texts = [
    [
        "SELECT id, code, title, due, version FROM cases ORDER BY due, id LIMIT $1",
        "SELECT id, code, title, due, version FROM cases \
         WHERE (due, id) > ($1, $2) ORDER BY due, id LIMIT $3",
    ],
    [
        "SELECT id, code, title, due, version FROM cases ORDER BY due DESC, id DESC LIMIT $1",
        "SELECT id, code, title, due, version FROM cases \
         WHERE (due, id) < ($1, $2) ORDER BY due DESC, id DESC LIMIT $3",
    ],
];

const BY_TITLE: Texts = [
    [
        "SELECT id, code, title, due, version FROM cases ORDER BY title, id LIMIT $1",
        "SELECT id, code, title, due, version FROM cases \
         WHERE (title, id) > ($1, $2) ORDER BY title, id LIMIT $3",
    ],
    [
        "SELECT id, code, title, due, version FROM cases ORDER BY title DESC, id DESC LIMIT $1",
        "SELECT id, code, title, due, version FROM cases \
         WHERE (title, id) < ($1, $2) ORDER BY title DESC, id DESC LIMIT $3",
    ],
];

/// What the double has to know.
#[derive(Default)]
pub(crate) struct CaseTable;

impl MemoryTable for CaseTable {
    type Id = i64;
    type Row = Case;
    type Draft = NewCase;

    fn insert(&self, _: &TenantContext, draft: &NewCase, id: i64) -> Case {
        let NewCase { code, title, due } = draft.clone();
        Case {
            id,
            code,
            title,
            due,
            version: 1,
        }
    }

    fn update(&self, old: &Case, new: &Case) -> Case {
        Case {
            code: old.code.clone(),
            version: old.version + 1,
            ..new.clone()
        }
    }

    fn upsert(&self, old: &Case, draft: &NewCase) -> Case {
        Case {
            title: draft.title.clone(),
            due: draft.due,
            version: old.version + 1,
            ..old.clone()
        }
    }

    fn unique(&self, case: &Case) -> Vec<(&'static str, Vec<SortKey>)> {
        vec![("one_case_a_code", vec![case.code.as_str().into()])]
    }

    fn orders(&self) -> &[&'static str] {
        &["due", "title"]
    }

    fn sort_key(&self, order: &str, case: &Case) -> Vec<SortKey> {
        match order {
            "title" => vec![case.title.as_str().into()],
            _ => vec![case.due.into()],
        }
    }
}

/// Rows to try any implementation with.
pub(crate) struct OfCases<R>(pub(crate) R);

impl<R: WriteRepository<Id = i64, Row = Case, Draft = NewCase>> Subject for OfCases<R> {
    type Id = i64;
    type Row = Case;
    type Draft = NewCase;

    fn repository(&self) -> &dyn WriteRepository<Id = i64, Row = Case, Draft = NewCase> {
        &self.0
    }

    fn draft(&self, number: u32) -> NewCase {
        NewCase {
            code: format!("C-{number}"),
            title: format!("title {}", number / 4),
            due: i64::from(number / 3),
        }
    }

    fn again(&self, number: u32) -> NewCase {
        NewCase {
            title: "upserted".to_owned(),
            ..self.draft(number)
        }
    }

    fn changed(&self, case: Case) -> Case {
        Case {
            title: format!("{} changed", case.title),
            ..case
        }
    }

    fn unknown(&self) -> i64 {
        i64::MAX
    }

    fn constraint(&self) -> &str {
        "one_case_a_code"
    }

    fn orders(&self) -> &[&str] {
        &["due", "title"]
    }
}
