use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::Kind::*;
use super::{Inspection, Kind};

fn inspect(sql: &str) -> Inspection {
    super::inspect(sql, |name| name.starts_with("app."))
}

#[track_caller]
fn all(kind: Kind, texts: &[&str]) {
    for sql in texts {
        assert_eq!(inspect(sql).kind, kind, "{sql}");
    }
}

#[test]
fn session_call() {
    all(
        SessionCall,
        &[
            "select set_config('work_mem', '1MB', false)",
            "select pg_catalog . /* */ Set_Config ('a.b', $1, true)",
            "select \"set_config\"('a.b', '', true)",
            "select U&\"set\\005fconfig\"('a.b', '', true)",
            "update t set a = set_config('a.b', '', true)",
            "explain analyze select pg_advisory_lock(1)",
            "with a as (select pg_try_advisory_lock_shared(1)) table a",
            "values (pg_advisory_lock_shared(1), pg_try_advisory_lock(2))",
        ],
    );
    all(
        Read,
        &[
            "select set_config, \"set_config\" from t",
            "select 'set_config(', $$set_config($$ -- set_config(",
            "select pg_advisory_xact_lock(1), my_set_config(2), set_configs(3)",
        ],
    );
}

#[test]
fn empty() {
    all(
        Empty,
        &[
            "",
            " \t\r\n\x0b\x0c",
            ";",
            ";;\n;",
            "-- x",
            "/* ; /* */ begin */",
            "--;\n;/**/;",
        ],
    );
    assert_eq!(inspect(";;").statements, 0);
}

#[test]
fn read() {
    all(
        Read,
        &[
            "select 1",
            "SELECT'begin'",
            "((select 1) union (select 2))",
            "values (1), (2)",
            "table t",
            "show app.tenant_id",
            "with a as (select 1) select * from a",
            "with recursive a (n) as (select 1 union all select n + 1 from a) \
             search depth first by n set o cycle n set c using p select update, delete from a",
            "explain select 1",
            "explain analyze verbose select 1",
            "explain (analyze, format 'json', costs off) (select 1)",
            "explain (select 1)",
            "explain ((with a as (select 1) table a))",
            "select insert, update, delete, merge from t",
            "select 1 as into, x.into, x . /* */ into, x.as, 1 as as, \"into\", U&\"into\"",
            "select x.insert, 'insert into t', $$into$$, $a$ into $$ $a$ from t -- into t",
            "select substring(a from 1 for 2), t::timestamp with time zone, count(update) from t",
            "select e'\\'; commit; --'",
            "select 'a''; commit; --'",
            "select '\\', ';' -- ; begin",
            "select /* ; /* ; */ commit; */ 1",
            "select a$$, b$$ from t",
            "select \"a\"\"; commit; --\" from t",
            "select e'a' -- ' \n  '\\'; commit; --'",
            "select U&'\\', u&\"a;\" from t",
        ],
    );
}

#[test]
fn write() {
    all(
        Write,
        &[
            "insert into t values (1)",
            "INSERT/**/INTO t SELECT 1",
            "update t set into_ = 1",
            "delete from t",
            "merge into t using s on true when matched then update set a = 1",
            "with a as (insert into t values (1) returning *) select * from a",
            "with a as (select 1), b as (delete from t) table a",
            "with a as (select 1) update t set a = 1",
            "with a as (select 1) insert into t table a",
            "with recursive a as (select 1) cycle n set c using p merge into t using a on true \
             when matched then do nothing",
            "with a as (with b as (select 1) insert into t table b) select 1",
            "explain delete from t",
            "explain (analyze) with a as (delete from t) select 1",
            "select * from t for update",
            "(select * from t FOR/**/SHARE)",
            "select * from t for no key update of t nowait",
            "table t for key share",
            "select 1; delete from t; select 2",
        ],
    );
}

#[test]
fn local() {
    all(
        Local,
        &[
            "lock table t",
            "LOCK t in share mode nowait",
            "notify x, 'y'",
            "set local work_mem to 5",
            "set/**/local session.foo = 1",
            "set local local.foo = 1",
            "set local role x",
            "set local time zone 'UTC'",
            "set constraints all deferred",
            "set constraints app.c, d immediate",
            "select 1; set local work_mem = '5MB'; delete from t",
        ],
    );
}

#[test]
fn session() {
    all(
        Session,
        &[
            "create table t (a int)",
            "create temp table t as select 1",
            "listen x",
            "declare c cursor for select 1",
            "fetch c",
            "call p()",
            "do 'begin commit; end'",
            "discard plans",
            "unheard of",
            "select into_ into t from x; select 1",
            "select * into t from x",
            "select * INTO TEMP t from x",
            "(select a as b into t from x)",
            "with a as (delete from t returning *) select * into t from a",
            "explain select 1 into t",
            "explain create table t as select 1",
            "explain analyze declare c cursor for select 1",
            "explain execute q",
            "explain (analyze) execute q",
            "explain",
            "explain (analyze",
            // The INSERT and the `as` are columns here, and the dot is of a number.
            "select insert into t from x",
            "select merge into t from x",
            "with a as (select 1) select insert into t from a",
            "with a as (select 1) (select insert into t from a)",
            "select x.as into t from x",
            "select 1 as as into t",
            "select 1. into t",
            "select 1_0. into t",
            "select $1into t",
            "\"select\" 1",
            "1 select",
            "(",
            "\u{feff}select 1",
            "select\u{a0}1",
            "set work_mem = '5MB'",
            "set time zone 'UTC'",
            "set role x",
            "set session role x",
            "reset role",
            "set constraints.mode = 1",
            "set session constraints to 1",
            "set session.foo = 1",
            "set local = 1",
            "set search_path to app",
            "reset local",
        ],
    );
}

#[test]
fn lasting() {
    all(
        Lasting,
        &[
            "prepare q as select 1",
            "execute q",
            "deallocate all",
            "load 'x'",
            "set session authorization x",
            "set local session authorization x",
            "SET SESSION SESSION AUTHORIZATION DEFAULT",
            "set session_authorization = x",
            "set \"session_authorization\" to x",
            "reset session authorization",
        ],
    );
}

#[test]
fn copy() {
    all(
        Copy,
        &[
            "copy t from stdin",
            "COPY (select 1) to stdout",
            "load 'x'; copy t to stdout",
        ],
    );
}

#[test]
fn context() {
    all(
        Context,
        &[
            "set app.tenant_id = 'x'",
            "set/**/local--\napp . -- x\n tenant_id to 'x'",
            "SET SESSION App.\"Tenant_ID\" TO DEFAULT",
            "set \"app.tenant_id\" = 'x'",
            "set \"APP\".\"tenant_id\" = 'x'",
            "set U&\"work_mem\" = 'x'",
            "set local u&\"app\\002etenant_id\" = 'x'",
            "reset app.tenant_id",
            "reset all",
            "Discard ALL",
            "select 1; set app.x = 1",
            "set 'x'",
            "set",
            "reset",
            "set a\"\"\"b\" = 1; set \"a\"\"b\" = 1",
            "set standard_conforming_strings = off",
            "reset standard_conforming_strings",
            "set client_encoding to sjis",
            "set names 'sjis'",
        ],
    );
    // PostgreSQL cuts a name after 63 bytes, so this may be any name's beginning.
    all(
        Context,
        &[
            &format!("set {} = 1", "a".repeat(64)),
            &format!("set {}a = 1", "a.".repeat(128)),
        ],
    );
    all(Session, &[&format!("set {} = 1", "a".repeat(63))]);
}

#[test]
fn settings_by_other_names() {
    let asked = |sql: &str, name: &str| super::inspect(sql, |asked| asked == name).kind == Context;
    assert!(asked("set schema 'x'", "search_path"));
    assert!(asked("set local time zone 'UTC'", "timezone"));
    assert!(asked("reset time zone", "timezone"));
    assert!(asked("set role x", "role"));
    assert!(asked("set session role x", "role"));
    assert!(asked("set schema.x = 1", "schema.x"));
    assert!(asked("set local.x to 1", "local.x"));
    assert!(asked("set session session.x to 1", "session.x"));
    assert!(asked("set é.Ü = 1", "é.Ü"));
}

#[test]
fn transaction_control() {
    all(
        TransactionControl,
        &[
            "begin",
            "START transaction",
            "commit",
            "end",
            "abort",
            "rollback to a",
            "savepoint a",
            "release a",
            "prepare transaction 'x'",
            "commit prepared 'x'",
            "rollback prepared 'x'",
            "set transaction read only",
            "set local transaction snapshot 'x'",
            "set session characteristics as transaction read only",
            "set transaction_isolation = 'serializable'",
            "set local \"Transaction_Read_Only\" to off",
            "reset transaction isolation level",
            ";;select 1;commit",
            "(commit)",
            "select 'a' -- '\r; commit",
            "select '\\'; commit; --'",
            "select n'\\'; commit; --'",
            "select U&'\\'; commit; --'",
            "select ae'\\'; commit; --'",
            "select \"e\"'\\'; commit; --'",
            "select 0xe'\\'; commit; --'",
            "select e'a' /* */ \n '\\'; commit; --'",
            "select e'a' '\\'; commit; --'",
            "select a$$; commit; --$$",
            "select $1$$a$$; commit",
            "select $a$ $b$ $a$; commit; $b$",
            "select $é$ $$ $é$; commit",
            "select 1*/**/2; commit",
            "select (1; commit",
            "create function f() returns int begin atomic select 1; end",
        ],
    );
}

#[test]
fn what_cannot_be_told_apart() {
    for sql in [
        "select '",
        "select '\\'';",
        "select e'\\'",
        "select e'\\",
        "select \"",
        "select \"a\"\"",
        "select $$ $a$",
        "select $a$ $A$",
        "/*",
        "/* /* */",
        "select /*/",
        "select U&\"",
        "select 1_0$1",
        "select 0x1f$$; commit; $$",
        "select 1\0",
        "'\0'",
    ] {
        let told = inspect(sql);
        assert_eq!(told.kind, TransactionControl, "{sql:?}");
        assert_eq!(
            (told.statements, told.highest_parameter),
            (1, u32::MAX),
            "{sql:?}"
        );
    }
    assert_eq!(inspect("select 1; /*").statements, 2);
}

#[test]
fn counts() {
    for (sql, statements, highest) in [
        ("select 1", 1, 0),
        ("select 1;", 1, 0),
        (";select $1;; select $03 , $2", 2, 3),
        (
            "select $1abc, x$7, \"$8\", '$9', $a$ $10 $a$, e'\\' $11' -- $12\n /* $13 */",
            1,
            1,
        ),
        ("select a[$2:$3], ($1)::text, -$4, $5+$6", 1, 6),
        ("select 1$2", 1, 2),
        ("select $0", 1, 0),
        ("explain (analyze) select $4", 1, 4),
        ("set app.x = $3", 1, 3),
        ("select $2147483647", 1, 2_147_483_647),
        ("select $4294967297", 1, u32::MAX),
        ("select $99999999999999999999", 1, u32::MAX),
    ] {
        let told = inspect(sql);
        assert_eq!(
            (told.statements, told.highest_parameter),
            (statements, highest),
            "{sql}"
        );
    }
}

#[test]
fn depth_has_no_end() {
    let (open, close) = ("(".repeat(100_000), ")".repeat(100_000));
    assert_eq!(inspect(&format!("{open}select 1{close}")).kind, Read);
    assert_eq!(
        inspect(&format!("{open}with a as (select 1) delete from t{close}")).kind,
        Write
    );
    assert_eq!(
        inspect(&format!(
            "{open}with a as (select 1) select insert into t{close}"
        ))
        .kind,
        Session
    );
    assert_eq!(
        inspect(&format!(
            "select {}{}1",
            "/*".repeat(99_999),
            "*/".repeat(99_999)
        ))
        .kind,
        Read
    );
}

/// Tokens that are whole in themselves, with a mention of a parameter wherever there is room for
/// one that does not count. No string follows another without a word between them, see `texts`.
const OPAQUE: &[&str] = &[
    "'$99; commit; --'",
    "'a''$99; commit'",
    "'\\'",
    "'/* $99'",
    "'-- $99'",
    "E'\\'$99; commit; --'",
    "e'\\\\'",
    "e'''\\''\n'\\'$99; commit'",
    "B'1'",
    "X'f'",
    "N'\\'",
    "U&'\\'",
    "\"$99; commit; --\"",
    "\"a\"\"';$99\"",
    "U&\"'$99\"",
    "$$'; $99; commit; --$$",
    "$a$ $$ $99 $b$ /* $a$",
    "$é_1$ ' $é_1$",
    "1",
    "1.5e10",
    ".5",
    "a$99",
    "é",
    "+",
    "::",
    "(",
    ")",
    ",",
    "@-",
];

/// What may stand between two tokens.
const SPACE: &[&str] = &[
    " ",
    "\n",
    "\r\n",
    "\t\x0c",
    "/**/",
    "/* $99; ' */",
    "/* /* \" */ $$ */",
    "/*-- */",
    "-- $99; commit '\n",
    "--/*\r",
    " --\n",
];

/// Keywords and their like, where they mean something and where not.
const WORDS: &[&str] = &[
    "select",
    "with",
    "as",
    "insert",
    "into",
    "update",
    "delete",
    "merge",
    "for",
    "share",
    "table",
    "values",
    "explain",
    "analyze",
    "set",
    "local",
    "session",
    "app",
    ".",
    "=",
    "to",
    "tenant_id",
    "reset",
    "all",
    "transaction",
    "prepare",
    "authorization",
    "x",
    "(",
    ")",
    ",",
    ";",
    "$3",
    "1",
    "'s'",
    "\"app\"",
];

fn joined(tokens: &[(&str, &str)]) -> String {
    tokens
        .iter()
        .flat_map(|(token, space)| [*token, *space])
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) })]

    #[test]
    fn never_panics(sql in any::<String>(), mixed in vec(select([OPAQUE, SPACE, WORDS, &["'", "\"", "$", "\\", "/*", "E'", "$a$"]].concat()), 0..30)) {
        inspect(&sql);
        let mixed = mixed.concat();
        let told = inspect(&mixed);
        prop_assert_eq!(told.kind == Empty, told.statements == 0);
        for sql in [sql, mixed] {
            let more = format!("{sql}\n;commit");
            prop_assert_eq!(inspect(&more).kind, TransactionControl, "{}", more);
        }
    }

    #[test]
    fn space_between_tokens_changes_nothing(tokens in vec((select(WORDS), vec(select(SPACE), 1..4)), 0..25)) {
        let plain: Vec<_> = tokens.iter().map(|(token, _)| *token).collect();
        let spaced: String = tokens.iter().map(|(token, space)| format!("{token}{}", space.concat())).collect();
        prop_assert_eq!(inspect(&plain.join(" ")), inspect(&spaced), "{}", spaced);
    }

    #[test]
    fn a_hidden_statement_is_seen(tokens in vec((select(OPAQUE), select(SPACE)), 0..20), touching in any::<bool>()) {
        // A word before each token keeps an E'..' from going on in the next string.
        let soup = format!("select {}", joined(&tokens));
        let words: Vec<_> = tokens.iter().flat_map(|token| [("x", " "), *token]).collect();
        let separate = format!("select {}", joined(&words));
        prop_assert_eq!(inspect(&separate).kind, Read, "{}", separate);
        prop_assert_eq!(inspect(&separate).statements, 1);
        prop_assert_eq!(inspect(&separate).highest_parameter, 0);
        let gap = if touching { "" } else { "\n" };
        let hidden = inspect(&format!("{separate}{gap};commit"));
        prop_assert_eq!((hidden.kind, hidden.statements), (TransactionControl, 2));
        let hidden = inspect(&format!("{separate};{gap}select $7"));
        prop_assert_eq!((hidden.kind, hidden.statements, hidden.highest_parameter), (Read, 2, 7));
        prop_assert_eq!(inspect(&format!("{soup}\n;commit")).kind, TransactionControl);
    }
}
