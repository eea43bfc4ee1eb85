//! Single statements, in autocommit: `Ok` means kept, and what failed is lost or kept, but the
//! statement's own and whole.

use futures_util::StreamExt as _;
use sqlx::{AssertSqlSafe, Either, Executor as _, SqlSafeStr as _};
use tenantry::{Error, TenantScope};

use crate::stage::{Stage, answers, label};
use crate::sweep::{Trial, silence, sweep};

/// How a text comes to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Text {
    /// Prepared before.
    Known,
    /// Prepared now, and kept.
    New,
    /// Prepared now, and not kept.
    Unnamed,
}

#[derive(Clone, Copy, Debug)]
enum Method {
    Execute,
    FetchOne,
    FetchAll,
    FetchMany,
}

const ALL: [(Text, Method); 6] = [
    (Text::Known, Method::Execute),
    (Text::Known, Method::FetchOne),
    (Text::Known, Method::FetchAll),
    (Text::New, Method::FetchMany),
    (Text::New, Method::FetchOne),
    (Text::Unnamed, Method::Execute),
];

/// Writes a note, and gives back what was written as far as it was said.
async fn write(
    a: &TenantScope,
    (text, method): (Text, Method),
    sql: &str,
    body: &str,
) -> Result<Option<String>, sqlx::Error> {
    let query = sqlx::query_scalar::<_, String>(AssertSqlSafe(sql))
        .bind(body)
        .persistent(text != Text::Unnamed);
    match method {
        Method::Execute => {
            let query = sqlx::query(AssertSqlSafe(sql))
                .bind(body)
                .persistent(text != Text::Unnamed);
            let done = query.execute(a).await?;
            assert_eq!(done.rows_affected(), 1);
            Ok(None)
        }
        Method::FetchOne => query.fetch_one(a).await.map(Some),
        Method::FetchAll => {
            let mut rows = query.fetch_all(a).await?;
            assert_eq!(rows.len(), 1);
            Ok(rows.pop())
        }
        Method::FetchMany => {
            let (mut row, mut done) = (None, 0);
            let query = sqlx::query(AssertSqlSafe(sql)).bind(body);
            let mut answers = a.fetch_many(query);
            while let Some(answer) = answers.next().await {
                match answer? {
                    Either::Left(result) => done += result.rows_affected(),
                    Either::Right(one) => row = Some(sqlx::Row::get(&one, 0)),
                }
            }
            assert_eq!(done, 1, "a stream that ended well has been told all");
            Ok(row)
        }
    }
}

async fn writes(trial: &Trial<'_>, way: (Text, Method)) {
    const INSERT: &str = "INSERT INTO notes (body) VALUES ($1) RETURNING body";
    let a = trial.a().await;
    let sql = match way.0 {
        Text::New => format!("{INSERT} /* {} */", label()),
        _ => INSERT.to_owned(),
    };
    if way.0 == Text::Known {
        write(&a, way, &sql, "written before")
            .await
            .expect("written");
    } else {
        answers(&a, "a").await.expect("a connection is open");
    }
    trial.arm();
    let written = write(&a, way, &sql, &trial.body()).await;
    trial.disarm().await;
    let kept = trial.kept().await;
    match written {
        Ok(said) => {
            assert_eq!(kept, 1, "{trial}: written, it said");
            assert!(said.is_none_or(|said| said == trial.body()), "{trial}");
            trial.saw("written");
        }
        Err(error) => {
            trial.is_lost(error);
            assert!(kept <= 1, "{trial}: written twice");
            trial.saw(if kept == 1 { "lost, and kept" } else { "lost" });
        }
    }
}

#[tokio::test]
async fn statement_that_writes() {
    for tests_first in [false, true] {
        let stage = Stage::new(tests_first).await;
        // How a text comes there makes no difference to the test before it.
        for way in ALL
            .into_iter()
            .take(if tests_first { 2 } else { ALL.len() })
        {
            let tally = sweep(&stage, async |trial| writes(trial, way).await).await;
            for seen in ["written", "lost", "lost, and kept"] {
                assert!(tally.has_seen(seen), "{way:?}: {tally:?}");
            }
        }
    }
}

#[tokio::test]
async fn statement_that_writes_on_a_network_that_goes_silent() {
    let stage = Stage::new(true).await;
    for way in ALL {
        silence(&stage, async |trial| writes(trial, way).await).await;
    }
}

/// The rows of `a`, each with the question that it answers.
async fn reads(trial: &Trial<'_>, text: Text, streams: bool) {
    const ROWS: &str = "SELECT $1 || body FROM notes WHERE body LIKE 'a%note of%' ORDER BY id";
    let a = trial.a().await;
    let sql = match text {
        Text::New => format!("{ROWS} /* {} */", label()),
        _ => ROWS.to_owned(),
    };
    let read = async |question: String| -> (Vec<String>, Option<sqlx::Error>) {
        let query = sqlx::query_scalar(AssertSqlSafe(&*sql))
            .bind(&question)
            .persistent(text != Text::Unnamed);
        if !streams {
            return match query.fetch_all(&a).await {
                Ok(rows) => (rows, None),
                Err(error) => (vec![], Some(error)),
            };
        }
        let (mut rows, mut stream) = (vec![], query.fetch(&a));
        while let Some(row) = stream.next().await {
            match row {
                Ok(row) => rows.push(row),
                Err(error) => return (rows, Some(error)),
            }
        }
        (rows, None)
    };
    match text {
        Text::Known => assert!(read(label()).await.1.is_none()),
        _ => answers(&a, "a").await.expect("a connection is open"),
    }
    let question = label();
    trial.arm();
    let (rows, error) = read(question.clone()).await;
    trial.disarm().await;
    let expected = ["a note of a", "a second note of a", "a third note of a"]
        .map(|body| format!("{question}{body}"));
    match error {
        None => assert_eq!(rows, expected, "{trial}"),
        Some(error) => {
            trial.is_lost(error);
            assert!(expected.starts_with(&rows), "{trial}: {rows:?}");
        }
    }
}

#[tokio::test]
async fn statement_that_reads() {
    for tests_first in [false, true] {
        let stage = Stage::new(tests_first).await;
        for text in [Text::Known, Text::New, Text::Unnamed] {
            for streams in [false, true] {
                if streams || !tests_first {
                    sweep(&stage, async |trial| reads(trial, text, streams).await).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn statement_that_reads_on_a_network_that_goes_silent() {
    let stage = Stage::new(true).await;
    for text in [Text::Known, Text::New] {
        silence(&stage, async |trial| reads(trial, text, true).await).await;
    }
}

#[tokio::test]
async fn preparing() {
    let stage = Stage::new(false).await;
    sweep(&stage, async |trial| {
        let a = trial.a().await;
        answers(&a, "a").await.expect("a connection is open");
        let sql = format!("SELECT $1 || body FROM notes /* {} */", label());
        trial.arm();
        let prepared = a.prepare(AssertSqlSafe(sql).into_sql_str()).await;
        trial.disarm().await;
        match prepared {
            Ok(statement) => assert_eq!(sqlx::Statement::columns(&statement).len(), 1),
            Err(error) => trial.is_lost(error),
        }
    })
    .await;
}

/// The server's own refusal, and the loss of the connection behind it, are told apart.
#[tokio::test]
async fn statement_that_is_refused() {
    for tests_first in [false, true] {
        let stage = Stage::new(tests_first).await;
        let tally = sweep(&stage, async |trial| {
            let a = trial.a().await;
            answers(&a, "a").await.expect("a connection is open");
            trial.arm();
            let refused = sqlx::query("INSERT INTO notes (body) VALUES (NULL)")
                .execute(&a)
                .await;
            trial.disarm().await;
            let error = Error::from(refused.expect_err("refused"));
            match error.code().as_deref() {
                Some("23502") => trial.saw("refused"),
                _ => trial.is_lost(error),
            }
        })
        .await;
        assert!(tally.has_seen("refused"));
    }
}
