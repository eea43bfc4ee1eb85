//! The throw-away server: what it offers, and that nothing of it stays behind.
//!
//! The tests that end a process start this test binary again, as the test `helper`, with the
//! variable `TENANTRY_HELPER` saying what to do. They need a server of their own: the variable
//! `TENANTRY_TEST_DATABASE_URL` must not be set.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Executor as _};
use tenantry::testing::{PostgresServer, ServerError};

#[tokio::test]
async fn two_at_once_have_their_own_port_data_and_socket() {
    let (one, two) = tokio::join!(PostgresServer::start(), PostgresServer::start());
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_ne!(one.port(), two.port());

    let mut tcp = one.connect_options().connect().await.unwrap();
    tcp.execute("create table mark (id int)").await.unwrap();
    assert_eq!(
        text(&mut tcp, "select to_regclass('mark')::text")
            .await
            .as_deref(),
        Some("mark")
    );
    assert_eq!(
        text(
            &mut tcp,
            "select host(inet_server_addr()) || ' ' || current_user || ' ' || current_database()"
        )
        .await,
        Some("127.0.0.1 postgres postgres".to_owned())
    );

    let mut other = two.connect_options().connect().await.unwrap();
    assert_eq!(
        text(&mut other, "select to_regclass('mark')::text").await,
        None
    );

    let mut socket = one.socket_options().connect().await.unwrap();
    assert_eq!(
        text(&mut socket, "select to_regclass('mark')::text")
            .await
            .as_deref(),
        Some("mark")
    );
    assert_eq!(
        text(&mut socket, "select inet_server_addr()::text").await,
        None
    );
}

#[tokio::test]
async fn version_encoding_and_settings_are_as_told() {
    let server = PostgresServer::builder()
        .setting("max_connections", "17")
        .setting("work_mem", "5MB")
        .setting("tenantry.note", "it's a \\ test")
        .start()
        .await
        .unwrap();
    let mut connection = server.connect_options().connect().await.unwrap();
    for (name, expected) in [
        ("max_connections", "17"),
        ("work_mem", "5MB"),
        ("tenantry.note", "it's a \\ test"),
        ("fsync", "off"),
        ("full_page_writes", "off"),
        ("synchronous_commit", "on"),
        ("server_encoding", "UTF8"),
        ("timezone", "UTC"),
        ("server_version_num", &server.version().to_string()),
    ] {
        let query = format!("select current_setting('{name}')");
        assert_eq!(
            text(&mut connection, &query).await.as_deref(),
            Some(expected),
            "{name}"
        );
    }
    let collation = "select datcollate::text from pg_database where datname = current_database()";
    assert_eq!(text(&mut connection, collation).await.as_deref(), Some("C"));
}

#[tokio::test]
async fn a_setting_that_the_server_refuses_is_told_with_the_log() {
    let error = PostgresServer::builder()
        .setting("no_such_setting", "1")
        .start()
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            ServerError::Ended {
                program: "postgres",
                ..
            }
        ),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(
        text.contains("unrecognized configuration parameter \"no_such_setting\""),
        "{text}"
    );

    let error = PostgresServer::builder()
        .setting("port", "1")
        .start()
        .await
        .unwrap_err();
    assert!(matches!(error, ServerError::Setting { .. }), "{error:?}");
}

#[tokio::test]
async fn a_restart_keeps_data_and_port_and_ends_connections() {
    let server = PostgresServer::start().await.unwrap();
    let port = server.port();
    let mut before = mark(&server).await;
    server.restart().await.unwrap();
    assert!(
        before.execute("select 1").await.is_err(),
        "the connection lived through a restart"
    );
    assert_eq!(server.port(), port);
    assert_marked(&server).await;
}

#[tokio::test]
async fn a_crash_keeps_what_is_committed() {
    let server = PostgresServer::start().await.unwrap();
    let mut before = mark(&server).await;
    server.crash().await.unwrap();
    assert!(
        before.execute("select 1").await.is_err(),
        "the connection lived through a crash"
    );
    assert!(
        server.connect_options().connect().await.is_err(),
        "the server is still up"
    );
    server.restart().await.unwrap();
    assert_marked(&server).await;
    let log = std::fs::read_to_string(server.folder().unwrap().join("log")).unwrap();
    assert!(
        log.contains("automatic recovery in progress"),
        "not a crash: {log}"
    );
}

#[tokio::test]
async fn a_restart_waits_for_its_port() {
    let server = PostgresServer::start().await.unwrap();
    drop(mark(&server).await);
    server.crash().await.unwrap();
    let occupied = std::net::TcpListener::bind(("127.0.0.1", server.port())).unwrap();
    let mut restart = std::pin::pin!(server.restart());
    let early = tokio::time::timeout(Duration::from_secs(1), &mut restart).await;
    assert!(
        early.is_err(),
        "came up, or gave up, on a port that was taken: {early:?}"
    );
    drop(occupied);
    restart.await.unwrap();
    assert_marked(&server).await;
}

#[tokio::test]
async fn a_server_killed_by_someone_else_can_be_started_again() {
    let server = PostgresServer::start().await.unwrap();
    drop(mark(&server).await);
    kill("-KILL", &postmaster(server.folder().unwrap()));
    server.restart().await.unwrap();
    assert_marked(&server).await;
}

#[tokio::test]
async fn a_restart_waits_for_the_children_of_a_killed_server() {
    let server = PostgresServer::start().await.unwrap();
    let mut connection = mark(&server).await;
    let child = text(
        &mut connection,
        "select pid::text from pg_stat_activity where backend_type = 'checkpointer'",
    )
    .await
    .expect("a child");
    drop(connection);
    // It holds on to the memory that the server shares with its children.
    kill("-STOP", &child);
    kill("-KILL", &postmaster(server.folder().unwrap()));
    let mut restart = std::pin::pin!(server.restart());
    let early = tokio::time::timeout(Duration::from_secs(1), &mut restart).await;
    kill("-CONT", &child);
    assert!(
        early.is_err(),
        "came up, or gave up, beside an earlier server: {early:?}"
    );
    restart.await.unwrap();
    assert_marked(&server).await;
}

#[tokio::test]
async fn a_database_can_have_any_name_once() {
    let server = PostgresServer::start().await.unwrap();
    let name = r#"A "tenant"; drop database postgres"#;
    let options = server.create_database(name).await.unwrap();
    let mut connection = options.connect().await.unwrap();
    assert_eq!(
        text(&mut connection, "select current_database()::text")
            .await
            .as_deref(),
        Some(name)
    );
    let error = server.create_database(name).await.unwrap_err();
    assert!(matches!(error, ServerError::Database { .. }), "{error:?}");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("already exists") && !error.to_string().contains("already exists"));
}

#[tokio::test]
async fn the_server_does_not_run_as_root() {
    let server = PostgresServer::start().await.unwrap();
    let uid = ps(&["-o", "uid=", "-p", &postmaster(server.folder().unwrap())]);
    assert!(uid.trim().parse::<u32>().unwrap() > 0, "uid {uid}");
}

#[tokio::test]
async fn a_folder_without_a_server_gives_a_clear_error() {
    let folder = Scratch::new();
    let started = PostgresServer::builder().binaries(&folder.0).start().await;
    let error = started.unwrap_err();
    assert!(matches!(error, ServerError::NoBinaries { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&*folder.0.to_string_lossy()), "{text}");
    assert!(text.contains("apt-get install postgresql"), "{text}");
    // `initdb` alone, as some packages bring it, is no server.
    std::fs::write(folder.0.join("initdb"), "").unwrap();
    let started = PostgresServer::builder().binaries(&folder.0).start().await;
    assert!(
        matches!(started, Err(ServerError::NoBinaries { .. })),
        "{started:?}"
    );
}

#[tokio::test]
async fn stop_returns_when_everything_is_gone() {
    let server = PostgresServer::start().await.unwrap();
    let traces = Traces::of(&server);
    assert!(traces.all_there());
    server.stop().await.unwrap();
    assert_eq!(traces.left(), Vec::<String>::new());
}

#[test]
fn a_drop_outside_of_a_runtime_returns_at_once_and_leaves_nothing() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(PostgresServer::start()).unwrap();
    drop(runtime);
    let traces = Traces::of(&server);
    assert!(traces.all_there());
    let started = Instant::now();
    drop(server);
    assert!(
        started.elapsed() < Duration::from_millis(200),
        "{:?}",
        started.elapsed()
    );
    traces.wait_until_gone();
}

#[tokio::test]
async fn a_panic_leaves_nothing() {
    let server = PostgresServer::start().await.unwrap();
    let traces = Traces::of(&server);
    let task = tokio::spawn(async move {
        let _held = server;
        panic!("as a failing test does");
    });
    assert!(task.await.unwrap_err().is_panic());
    traces.wait_until_gone();
}

#[test]
fn sigkill_of_the_process_leaves_nothing() {
    gone_after(|helper| kill("-KILL", &helper.id().to_string()));
}

#[test]
fn sigint_to_the_process_leaves_nothing() {
    gone_after(|helper| kill("-INT", &helper.id().to_string()));
}

/// What a terminal does on Ctrl-C: the signal goes to every process of the group.
#[test]
fn sigint_to_the_process_group_leaves_nothing() {
    gone_after(|helper| kill("-INT", &format!("-{}", helper.id())));
}

#[test]
fn the_end_of_a_process_with_the_server_in_a_static_leaves_nothing() {
    // The helper goes on to its regular end when its standard input closes.
    gone_after(|helper| drop(helper.stdin.take()));
}

#[test]
fn a_start_that_is_dropped_midway_leaves_nothing() {
    let place = Scratch::new();
    let mut helper = Helper::spawn("cancel", &[("TMPDIR", place.0.as_os_str())]);
    let seen: usize = helper.answer().parse().unwrap();
    assert!(seen > 0, "no start had come far enough to leave anything");
    // The helper still runs: its end is not what cleans up.
    wait_until("the folders are gone", || {
        std::fs::read_dir(&place.0).unwrap().next().is_none()
    });
    wait_until("the processes are gone", || {
        !ps(&["-eo", "args"]).contains(place.name())
    });
    assert!(
        helper.child.try_wait().unwrap().is_none(),
        "the helper has ended"
    );
}

#[tokio::test]
async fn an_existing_server_is_left_as_it_was() {
    let server = PostgresServer::start().await.unwrap();
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", server.port());
    let mut connection = server.connect_options().connect().await.unwrap();
    let databases = "select string_agg(datname, ' ' order by datname) from pg_database";
    let before = text(&mut connection, databases).await;
    connection.execute("create database taken").await.unwrap();

    let mut helper = Helper::spawn("existing", &[("TENANTRY_TEST_DATABASE_URL", url.as_ref())]);
    assert_eq!(helper.answer(), server.port().to_string());
    let during = text(&mut connection, databases).await.unwrap();
    assert!(during.contains("borrowed"), "{during}");
    drop(helper.child.stdin.take());
    assert!(helper.child.wait().unwrap().success());

    let after = text(&mut connection, databases).await.unwrap();
    assert!(
        after.contains("taken"),
        "dropped a database it had not made: {after}"
    );
    connection.execute("drop database taken").await.unwrap();
    assert_eq!(text(&mut connection, databases).await, before);
}

/// Not a test of its own: what the others start in a process of its own.
#[test]
fn helper() {
    let Ok(task) = std::env::var("TENANTRY_HELPER") else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match task.as_str() {
        "hold" => {
            static SERVER: std::sync::OnceLock<PostgresServer> = std::sync::OnceLock::new();
            let server = runtime.block_on(PostgresServer::start()).unwrap();
            let server = SERVER.get_or_init(|| server);
            answer(server.folder().unwrap().to_str().unwrap());
        }
        "cancel" => {
            let place = std::env::var_os("TMPDIR").unwrap();
            let mut seen = 0;
            for millis in [0, 5, 20, 50, 100, 200, 400, 600, 800, 1000] {
                let limit = Duration::from_millis(millis);
                drop(runtime.block_on(async {
                    tokio::time::timeout(limit, PostgresServer::start()).await
                }));
                seen += std::fs::read_dir(&place).unwrap().count();
            }
            answer(&seen.to_string());
        }
        "existing" => {
            let with_setting = PostgresServer::builder().setting("work_mem", "5MB");
            let refused = runtime.block_on(with_setting.start()).unwrap_err();
            assert!(
                matches!(refused, ServerError::NotOurs { .. }),
                "{refused:?}"
            );
            let server = runtime.block_on(PostgresServer::start()).unwrap();
            let refused = runtime.block_on(server.restart()).unwrap_err();
            assert!(
                matches!(refused, ServerError::NotOurs { .. }),
                "{refused:?}"
            );
            let refused = runtime.block_on(server.crash()).unwrap_err();
            assert!(
                matches!(refused, ServerError::NotOurs { .. }),
                "{refused:?}"
            );
            assert!(runtime.block_on(server.create_database("taken")).is_err());
            let options = runtime
                .block_on(server.create_database("borrowed"))
                .unwrap();
            let left_open = runtime.block_on(options.connect()).unwrap();
            answer(&server.port().to_string());
            drop(runtime);
            drop(server);
            drop(left_open);
        }
        other => panic!("unknown task {other}"),
    }
}

/// Tells the test that started this helper, and waits until it closes the pipe.
fn answer(text: &str) {
    println!("\nanswer: {text}");
    let _ = std::io::stdin().lines().next();
}

struct Helper {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Helper {
    fn spawn(task: &str, variables: &[(&str, &std::ffi::OsStr)]) -> Self {
        use std::os::unix::process::CommandExt as _;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "helper", "--nocapture"])
            .env("TENANTRY_HELPER", task)
            .envs(variables.iter().copied())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    fn answer(&mut self) -> String {
        let mut lines = self.output.by_ref().lines().map(Result::unwrap);
        let line = lines.find_map(|line| line.strip_prefix("answer: ").map(str::to_owned));
        line.expect("the helper ended without an answer")
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn gone_after(end: impl FnOnce(&mut Child)) {
    let mut helper = Helper::spawn("hold", &[]);
    let traces = Traces::in_folder(Path::new(&helper.answer()));
    assert!(traces.all_there());
    end(&mut helper.child);
    helper.child.wait().unwrap();
    traces.wait_until_gone();
}

/// What one can see of a server from outside.
struct Traces {
    folder: PathBuf,
    postmaster: String,
}

impl Traces {
    fn of(server: &PostgresServer) -> Self {
        Self::in_folder(server.folder().unwrap())
    }

    fn in_folder(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            postmaster: postmaster(folder),
        }
    }

    fn all_there(&self) -> bool {
        // The folder, the postmaster, its helpers, and the watchdog.
        self.left().len() >= 4
    }

    fn left(&self) -> Vec<String> {
        let folder = self
            .folder
            .exists()
            .then(|| self.folder.display().to_string());
        let name = self.folder.file_name().unwrap().to_str().unwrap();
        let processes = ps(&["-eo", "ppid=,pid=,stat=,args="]);
        let processes = processes.lines().filter(|line| {
            let mut words = line.split_whitespace();
            let ids: Vec<&str> = words.by_ref().take(2).collect();
            let is_zombie = words.next().is_some_and(|stat| stat.starts_with('Z'));
            !is_zombie && (ids.contains(&self.postmaster.as_str()) || line.contains(name))
        });
        folder
            .into_iter()
            .chain(processes.map(str::to_owned))
            .collect()
    }

    fn wait_until_gone(&self) {
        wait_until("the server is gone", || self.left().is_empty());
    }
}

/// A folder that any account may write to, as the server's may be another one.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let path = std::env::temp_dir().join(format!("t{:012x}", fastrand::u64(..1 << 48)));
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o1777)).unwrap();
        Self(path)
    }

    fn name(&self) -> &str {
        self.0.file_name().unwrap().to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn mark(server: &PostgresServer) -> PgConnection {
    let mut connection = connect(server.connect_options()).await;
    connection
        .execute("create table mark (id int); insert into mark values (7)")
        .await
        .unwrap();
    connection
}

async fn assert_marked(server: &PostgresServer) {
    let mut connection = connect(server.connect_options()).await;
    assert_eq!(
        text(&mut connection, "select id::text from mark")
            .await
            .as_deref(),
        Some("7")
    );
}

async fn connect(options: PgConnectOptions) -> PgConnection {
    options.connect().await.unwrap()
}

async fn text(connection: &mut PgConnection, query: &str) -> Option<String> {
    let query = sqlx::AssertSqlSafe(query.to_owned());
    sqlx::query_scalar(query)
        .fetch_one(connection)
        .await
        .unwrap()
}

fn postmaster(folder: &Path) -> String {
    let file = std::fs::read_to_string(folder.join("data/postmaster.pid")).unwrap();
    file.lines().next().unwrap().to_owned()
}

fn kill(signal: &str, target: &str) {
    assert!(
        Command::new("kill")
            .args([signal, "--", target])
            .status()
            .unwrap()
            .success()
    );
}

fn ps(arguments: &[&str]) -> String {
    let output = Command::new("ps").args(arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn wait_until(what: &str, mut reached: impl FnMut() -> bool) {
    let started = Instant::now();
    while !reached() {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "waited in vain until {what}"
        );
        #[expect(
            clippy::disallowed_methods,
            reason = "polls processes, between looks, outside a runtime"
        )]
        std::thread::sleep(Duration::from_millis(20));
    }
}
