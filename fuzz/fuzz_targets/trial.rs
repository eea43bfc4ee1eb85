//! A text of any kind, run by a server: it does no more than the scanner says. Starts a PostgreSQL
//! server of its own, so it is slow and needs one on the machine.
#![no_main]
#![allow(
    dead_code,
    reason = "of the sources that are taken in, not all is used"
)]

use std::sync::{LazyLock, Mutex};

use libfuzzer_sys::fuzz_target;
use tenantry::testing::PostgresServer;
use tokio::runtime::Runtime;

#[path = "../../src/statement/mod.rs"]
mod statement;
#[path = "../../src/statement/trial.rs"]
mod trial;

use statement::{Kind, inspect};
use trial::{Claims, Trial};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));

static TRIAL: LazyLock<(PostgresServer, Mutex<Trial>)> = LazyLock::new(|| {
    RUNTIME.block_on(async {
        let server = PostgresServer::builder()
            .setting("statement_timeout", "5s")
            .start()
            .await
            .expect("a server");
        let trial = Trial::new(&server.connect_options())
            .await
            .expect("a session");
        (server, Mutex::new(trial))
    })
});

fuzz_target!(|sql: &str| {
    let seen = inspect(sql, |name| name.starts_with("app."));
    // A kind is that of the worst statement, and one beside it may have called `set_config`.
    let calls = sql.to_lowercase().contains("config");
    let claims = Claims {
        keeps_the_transaction: seen.kind < Kind::Copy,
        keeps_the_context: seen.kind < Kind::SessionCall || !calls,
        leaves_nothing: seen.kind <= Kind::Write,
        only_reads: seen.kind <= Kind::Read,
    };
    let mut trial = TRIAL.1.lock().expect("no panic while it is held");
    if let Err(what) = RUNTIME.block_on(trial.hold(sql, claims)) {
        panic!("{what}, said to be {seen:?}");
    }
});
