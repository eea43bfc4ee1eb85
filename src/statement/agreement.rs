//! Whether the server does with statements what we say that it does.

use std::error::Error;

use fastrand::Rng;

use super::trial::{Claims, Trial};
use super::{Inspection, Kind, inspect};
use crate::testing::PostgresServer;

#[tokio::test]
async fn the_server_does_what_we_say_of_a_text() -> Result<(), Box<dyn Error>> {
    let server = PostgresServer::builder()
        .setting("statement_timeout", "5s")
        .start()
        .await?;
    let mut trial = Trial::new(&server.connect_options()).await?;
    let texts = if std::env::var_os("TENANTRY_LONG").is_some() {
        50_000
    } else {
        1_500
    };
    let mut rng = Rng::with_seed(texts);
    let mut carried_out = 0;
    for _ in 0..texts {
        let sql = text(&mut rng);
        let seen = inspect(&sql, |name| name.starts_with("app."));
        match trial.hold(&sql, claims(&sql, seen)).await {
            Ok(is_done) => carried_out += u64::from(is_done),
            Err(what) => panic!("{what}, said to be {seen:?}: {sql}"),
        }
    }
    // What the server refuses says little.
    assert!(carried_out > texts / 5, "only {carried_out}");
    Ok(())
}

/// What `argument` and `lease` make of a kind.
fn claims(sql: &str, seen: Inspection) -> Claims {
    // A kind is that of the worst statement, and one beside it may have called `set_config`.
    let calls = sql.to_lowercase().contains("config");
    Claims {
        keeps_the_transaction: seen.kind < Kind::Copy,
        keeps_the_context: seen.kind < Kind::SessionCall || !calls,
        leaves_nothing: seen.kind <= Kind::Write,
        only_reads: seen.kind <= Kind::Read,
    }
}

/// A text of one to three statements, with odd spaces and odd case.
fn text(rng: &mut Rng) -> String {
    let mut sql = String::new();
    for n in 0..rng.usize(1..4) {
        if n > 0 {
            sql.push_str(pick(
                rng,
                &[";", "; ", ";;", "\n;", "; /* ; */", "; -- ;\n"],
            ));
        }
        let statement = statement(rng);
        for word in statement.split(' ').filter(|word| !word.is_empty()) {
            match rng.u8(..8) {
                0 => sql.push_str(&word.to_uppercase()),
                _ => sql.push_str(word),
            }
            sql.push_str(match rng.u8(..12) {
                0 => "\n",
                1 => "\t",
                2 => " /* commit; */ ",
                3 => " -- '\n",
                _ => " ",
            });
        }
    }
    sql
}

fn pick<'a>(rng: &mut Rng, among: &[&'a str]) -> &'a str {
    among[rng.usize(..among.len())]
}

fn statement(rng: &mut Rng) -> String {
    match rng.u8(..12) {
        0..=5 => body(rng, 2),
        6 => {
            let how = pick(
                rng,
                &[
                    "",
                    "analyze",
                    "verbose",
                    "analyze verbose",
                    "( analyze )",
                    "( analyze , costs off )",
                    "( format json )",
                    "( analyze false , verbose )",
                ],
            );
            format!("explain {how} {}", body(rng, 1))
        }
        7 => format!(
            "{} {}",
            pick(
                rng,
                &[
                    "declare c cursor for",
                    "declare c cursor with hold for",
                    "prepare p as",
                    "create temporary table x as",
                    "create table pg_temp.x as",
                    "create table x as",
                    "create or replace view v as",
                ]
            ),
            body(rng, 1)
        ),
        _ => pick(rng, OTHERS).to_owned(),
    }
}

/// A statement that reads or writes rows, perhaps with others inside.
fn body(rng: &mut Rng, depth: u32) -> String {
    let inner = |rng: &mut Rng| match depth {
        0 => pick(rng, &["select 1", "values ( 1 )", "table u"]).to_owned(),
        _ => body(rng, depth - 1),
    };
    match rng.u8(..16) {
        0 => format!("select {} from t", pick(rng, VALUES)),
        1 => format!("select {}", pick(rng, VALUES)),
        2 => format!("select a from t {}", pick(rng, TAILS)),
        3 => format!("( {} )", inner(rng)),
        4 => format!("select * from ( {} ) as s", inner(rng)),
        5 => format!("{} union all {}", inner(rng), inner(rng)),
        6..=8 => {
            let materialized = pick(rng, &["", "materialized", "not materialized"]);
            let name = pick(rng, &["w", "\"with\"", "insert_", "w ( a )", "update_"]);
            let recursive = pick(rng, &["", "recursive"]);
            format!(
                "with {recursive} {name} as {materialized} ( {} ) {}",
                inner(rng),
                inner(rng)
            )
        }
        9 => format!("insert into u ( a ) {} {}", inner(rng), pick(rng, AFTER)),
        10 => format!(
            "update u set b = {} {}",
            pick(rng, VALUES),
            pick(rng, AFTER)
        ),
        11 => format!("delete from u where false {}", pick(rng, AFTER)),
        12 => format!(
            "merge into u using t on u.a = t.a when {} then {}",
            pick(rng, &["matched", "not matched"]),
            pick(rng, &["do nothing", "delete", "insert values ( 1 , 'x' )"])
        ),
        13 => pick(
            rng,
            &["table t", "values ( 1 ) , ( 2 )", "show work_mem", "select"],
        )
        .to_owned(),
        14 => format!(
            "select a {} x from t",
            pick(rng, &["into", "into table", "into temp", "as"])
        ),
        _ => format!("select 1 where exists ( {} )", inner(rng)),
    }
}

const VALUES: &[&str] = &[
    "1",
    "'begin'",
    "'it''s ; commit'",
    "E'\\'; commit; --'",
    "$$ ; commit $$",
    "$a$ ' $a$",
    "U&'\\0027'",
    "a as commit",
    "a as \"set\"",
    "timestamp with time zone '2026-01-01'",
    "cast ( 1 as text )",
    "( select 1 )",
    "case when true then 1 else 2 end",
    "set_config ( 'work_mem' , '1MB' , false )",
    "set_config ( 'app.tenant_id' , 'b' , false )",
    "pg_catalog . \"set_config\" ( 'a.b' , 'c' , false )",
    "U&\"set\\005fconfig\" ( 'a.b' , 'c' , false )",
    "pg_advisory_lock ( 1 )",
    "pg_try_advisory_lock_shared ( 2 )",
    "pg_advisory_xact_lock ( 1 )",
    "current_setting ( 'app.tenant_id' )",
    "'a' 'b'",
    "1 as insert_",
    "t",
    "t.a",
    "array [ 1 ]",
    "1 between 0 and 2",
];

const TAILS: &[&str] = &[
    "",
    "for update",
    "for no key update",
    "for share",
    "for key share of t nowait",
    "for update of t skip locked",
    "limit 1 for update",
    "order by a fetch first 1 row only",
    "where b = 'for update'",
    "as update",
    "window w as ( order by a )",
    "tablesample system ( 10 )",
];

const AFTER: &[&str] = &["", "returning a", "returning *", "returning a as commit"];

const OTHERS: &[&str] = &[
    "set work_mem = '1MB'",
    "set local work_mem = '1MB'",
    "set session work_mem to default",
    "set app.tenant_id = 'b'",
    "set \"app\" . tenant_id to 'b'",
    "set APP.Tenant_Id = 'b'",
    "set local app.tenant_id = 'b'",
    "set session local = 1",
    "set role none",
    "set role app",
    "set session authorization default",
    "set transaction isolation level serializable",
    "set transaction_read_only = off",
    "set time zone 'UTC'",
    "set names 'UTF8'",
    "set schema 'public'",
    "set search_path = public",
    "set standard_conforming_strings = off",
    "reset work_mem",
    "reset app.tenant_id",
    "reset all",
    "discard all",
    "discard plans",
    "discard temp",
    "begin",
    "begin isolation level serializable",
    "start transaction",
    "commit",
    "commit and chain",
    "commit prepared 'x'",
    "end",
    "end transaction",
    "abort",
    "rollback",
    "rollback and chain",
    "savepoint s",
    "release s",
    "rollback to s",
    "prepare transaction 'x'",
    "prepare p as select 1",
    "execute p",
    "deallocate all",
    "deallocate p",
    "listen x",
    "unlisten *",
    "notify x",
    "lock table t",
    "close all",
    "fetch 1 from c",
    "move 1 from c",
    "do $$ begin perform 1; end $$",
    "do $$ begin commit; end $$",
    "do 'begin set_config; end'",
    "call nothing ( )",
    "create temp table x ( a int )",
    "create function f ( ) returns int language sql as 'select 1'",
    "create function f ( ) returns int language sql begin atomic select 1 ; end",
    "create procedure p ( ) language plpgsql as $$ begin commit; end $$",
    "drop table if exists x",
    "truncate t",
    "analyze t",
    "vacuum",
    "checkpoint",
    "comment on table t is 'x'",
    "load 'plpgsql'",
    "copy t to stdout",
    "copy t from stdin",
    "copy ( select 1 ) to stdout",
    "alter role app set work_mem = '1MB'",
    "alter table x add b int",
    "",
];
