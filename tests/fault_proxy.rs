//! The fault proxy does what it says: tests that are built on it see nothing otherwise.

mod support;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection};
use support::{World, empty_world};
use tenantry::testing::Direction::{ToClient, ToServer};
use tenantry::testing::FaultProxy;

async fn proxy(world: &World) -> FaultProxy {
    FaultProxy::start(&world.admin).await.expect("a proxy")
}

async fn connect(proxy: &FaultProxy, world: &World) -> PgConnection {
    let options = proxy.connect_options(&world.admin);
    options.connect().await.expect("connected")
}

async fn answers(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar("SELECT $1")
        .bind(7)
        .fetch_one(connection)
        .await
}

fn is_lost(answer: &Result<i32, sqlx::Error>) -> bool {
    matches!(answer, Err(sqlx::Error::Io(_)))
}

#[tokio::test]
async fn messages_bytes_and_round_trips_are_counted() {
    let world = empty_world().await;
    let proxy = proxy(&world).await;
    let mut connection = connect(&proxy, &world).await;
    let opened = proxy.counts();
    assert_eq!(opened.connections(), 1);
    assert_eq!(opened.messages_of(ToServer, "StartupMessage"), 1);
    assert_eq!(opened.messages_of(ToServer, "SSLRequest"), 0, "no need");
    assert_eq!(opened.messages_of(ToClient, "ReadyForQuery"), 1);

    assert_eq!(answers(&mut connection).await.expect("answered"), 7);
    let first = proxy.counts().since(&opened);
    let of = |direction| first.by_type(direction).collect::<Vec<_>>();
    assert_eq!(
        of(ToServer),
        [
            ("Bind", 1),
            ("Close", 1),
            ("Describe", 1),
            ("Execute", 1),
            ("Parse", 1),
            ("Sync", 2)
        ]
    );
    assert_eq!(
        of(ToClient),
        [
            ("BindComplete", 1),
            ("CloseComplete", 1),
            ("CommandComplete", 1),
            ("DataRow", 1),
            ("ParameterDescription", 1),
            ("ParseComplete", 1),
            ("ReadyForQuery", 2),
            ("RowDescription", 1),
        ]
    );
    assert_eq!((first.round_trips(), first.messages(ToServer)), (2, 7));

    let before = proxy.counts();
    answers(&mut connection).await.expect("answered");
    let again = proxy.counts().since(&before);
    assert_eq!((again.round_trips(), again.messages(ToServer)), (1, 4));
    // A Sync is five bytes; a DataRow of an integer fifteen.
    let before = proxy.counts();
    connection.ping().await.expect("answered");
    assert_eq!(proxy.counts().since(&before).bytes(ToServer), 5);
    connection.close().await.expect("closed");
    let farewell = async {
        while proxy.counts().messages_of(ToServer, "Terminate") == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), farewell)
        .await
        .expect("told");
}

#[tokio::test]
#[should_panic(expected = "no message ToClient is called `Parse`")]
async fn name_that_no_message_has_is_a_mistake() {
    let world = empty_world().await;
    let _ = proxy(&world).await.counts().messages_of(ToClient, "Parse");
}

/// The server has done what passed, and not what did not; the client has read what passed.
#[tokio::test]
async fn what_passed_before_a_cut_has_arrived_and_nothing_else() {
    let world = empty_world().await;
    let mut admin = world.admin().await;
    admin.execute("CREATE TABLE t (n int)").await.expect("made");
    let proxy = proxy(&world).await;
    let insert = "INSERT INTO t VALUES (1)";
    // In one Query: its length is a byte, four, the text and a zero byte.
    let length = (1 + 4 + insert.len() + 1) as u64;
    let cases: [(&dyn Fn(), bool); 5] = [
        (&|| proxy.cut_after_messages(ToServer, 0), false),
        (&|| proxy.cut_after_messages(ToServer, 1), true),
        (&|| proxy.cut_after_bytes(ToServer, length - 1), false),
        (&|| proxy.cut_after_bytes(ToServer, length), true),
        (&|| proxy.cut_after_messages(ToClient, 1), true),
    ];
    for (case, (arm, is_there)) in cases.into_iter().enumerate() {
        let mut connection = connect(&proxy, &world).await;
        let before = proxy.counts();
        arm();
        let done = connection.execute(insert).await;
        assert!(
            matches!(done, Err(sqlx::Error::Io(_))),
            "case {case}: {done:?}"
        );
        proxy.parted().await;
        let since = proxy.counts().since(&before);
        assert_eq!(since.cuts(), 1, "case {case}");
        let answers = u64::from(case == 4);
        assert_eq!(since.messages(ToClient), answers, "case {case}");
        let deleted = admin.execute("DELETE FROM t").await.expect("done");
        assert_eq!(deleted.rows_affected(), u64::from(is_there), "case {case}");
        assert!(connection.ping().await.is_err());
    }
}

#[tokio::test]
async fn cut_happens_once_and_to_one_connection() {
    let world = empty_world().await;
    let proxy = proxy(&world).await;
    let mut one = connect(&proxy, &world).await;
    let mut two = connect(&proxy, &world).await;
    // Prepared, so that one more answer is BindComplete, DataRow, and three more.
    for connection in [&mut one, &mut two] {
        answers(connection).await.expect("prepared");
    }
    proxy.cut_after_messages(ToClient, 6);
    answers(&mut one).await.expect("five pass");
    assert!(is_lost(&answers(&mut two).await), "the sixth is two's");
    answers(&mut one).await.expect("it was of one connection");
    let mut three = connect(&proxy, &world).await;
    answers(&mut three).await.expect("and of no other");

    proxy.cut_after_messages(ToServer, 0);
    proxy.disarm();
    answers(&mut one).await.expect("taken back");

    proxy.cut();
    proxy.parted().await;
    assert_eq!(proxy.counts().cuts(), 3, "the third connection too");
    assert!(is_lost(&answers(&mut one).await) && is_lost(&answers(&mut three).await));
}

#[tokio::test]
async fn each_new_connection_is_cut() {
    let world = empty_world().await;
    let proxy = proxy(&world).await;
    let mut before = connect(&proxy, &world).await;
    let options = proxy.connect_options(&world.admin);
    // The start-up message passes, and no answer.
    proxy.cut_each_after_messages(ToClient, 0);
    for _ in 0..2 {
        options.connect().await.expect_err("cut");
    }
    proxy.cut_each_after_bytes(ToServer, 3);
    options.connect().await.expect_err("cut");
    answers(&mut before).await.expect("is not new");
    proxy.disarm();
    answers(&mut connect(&proxy, &world).await)
        .await
        .expect("no longer");
}

/// While the server has answered somebody else so often, it would have answered anybody.
const OFTEN: usize = 50;

async fn polled<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    let once = poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending => Poll::Ready(None),
    });
    once.await
}

async fn is_silent(connection: &mut PgConnection, admin: &mut PgConnection) -> bool {
    let mut answer = Box::pin(answers(connection));
    for _ in 0..OFTEN {
        if polled(answer.as_mut()).await.is_some() {
            return false;
        }
        admin.ping().await.expect("answered");
    }
    true
}

#[tokio::test]
async fn what_is_frozen_goes_on_where_it_was() {
    let world = empty_world().await;
    let mut admin = world.admin().await;
    let proxy = proxy(&world).await;
    let mut one = connect(&proxy, &world).await;

    proxy.freeze_existing();
    assert!(is_silent(&mut one, &mut admin).await);
    answers(&mut connect(&proxy, &world).await)
        .await
        .expect("is not of those");
    proxy.thaw();
    one.ping().await.expect("what was under way is answered");
    answers(&mut one).await.expect("answered");

    proxy.freeze();
    assert!(is_silent(&mut one, &mut admin).await);
    let options = proxy.connect_options(&world.admin);
    let mut opening = Box::pin(options.connect());
    for _ in 0..OFTEN {
        assert!(polled(opening.as_mut()).await.is_none());
        admin.ping().await.expect("answered");
    }
    proxy.thaw();
    answers(&mut opening.await.expect("connected"))
        .await
        .expect("answered");
    one.ping().await.expect("answered");

    // In the midst of an answer.
    proxy.freeze_after_messages(ToClient, 2);
    while proxy.counts().freezes() == 0 {
        assert!(is_silent(&mut one, &mut admin).await);
    }
    assert!(is_silent(&mut one, &mut admin).await);
    assert_eq!(proxy.counts().freezes(), 1);
    proxy.thaw();
    one.ping().await.expect("answered");
    answers(&mut one).await.expect("in step");

    // What is frozen can be cut.
    proxy.freeze();
    proxy.cut();
    assert!(is_lost(&answers(&mut one).await));
}

#[tokio::test]
async fn it_is_late_by_as_much_as_was_said() {
    let world = empty_world().await;
    let proxy = proxy(&world).await;
    let mut connection = connect(&proxy, &world).await;
    let delay = Duration::from_millis(50);
    proxy.set_latency(delay);
    let started = Instant::now();
    connection.ping().await.expect("answered");
    assert!(started.elapsed() >= delay * 2, "each way");
    proxy.set_latency(Duration::ZERO);

    proxy.slow_to_part(delay);
    let started = Instant::now();
    let backend: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(&mut connection)
        .await
        .expect("a number");
    connection.close().await.expect("closed on our side");
    let mut admin = world.admin().await;
    loop {
        let there: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)")
                .bind(backend)
                .fetch_one(&mut admin)
                .await
                .expect("an answer");
        if !there {
            break;
        }
    }
    assert!(started.elapsed() >= delay);
}

#[tokio::test]
async fn its_connections_end_with_it() {
    let world = empty_world().await;
    let proxy = proxy(&world).await;
    let options = proxy.connect_options(&world.admin);
    let mut connection = connect(&proxy, &world).await;
    drop(proxy);
    assert!(is_lost(&answers(&mut connection).await));
    options.connect().await.expect_err("nobody listens");
}

/// Where it is not demanded, encryption is not asked for; where it is, that is left as it was.
#[tokio::test]
async fn encryption_is_left_out_where_it_is_not_demanded() {
    let world = empty_world().await;
    let proxy = proxy(&world).await;
    let with = |mode| {
        let options = world.admin.clone().ssl_mode(mode);
        proxy.connect_options(&options).get_ssl_mode()
    };
    assert!(matches!(with(PgSslMode::Prefer), PgSslMode::Disable));
    assert!(matches!(with(PgSslMode::Allow), PgSslMode::Disable));
    assert!(matches!(with(PgSslMode::Require), PgSslMode::Require));
    assert!(matches!(with(PgSslMode::VerifyFull), PgSslMode::VerifyFull));
}

#[tokio::test]
async fn unix_socket_is_a_way_to_the_server() {
    let server = support::server().await;
    let by_tcp = server.connect_options();
    let folder: String = sqlx::query_scalar("SHOW unix_socket_directories")
        .fetch_one(&mut by_tcp.connect().await.expect("connected"))
        .await
        .expect("a folder");
    let by_socket = by_tcp.clone().host(&folder);
    let proxy = FaultProxy::start(&by_socket).await.expect("a proxy");
    let mut connection = proxy
        .connect_options(&by_socket)
        .connect()
        .await
        .expect("connected");
    answers(&mut connection).await.expect("answered");
    assert_eq!(proxy.counts().connections(), 1);

    let fixed = PgConnectOptions::new_without_pgpass().socket(&folder);
    let error = FaultProxy::start(&fixed)
        .await
        .expect_err("cannot be led here");
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[tokio::test]
async fn server_that_is_down_is_down_behind_it_too() {
    // Bound, so that nobody else gets the port, and nobody listens.
    let taken = tokio::net::TcpSocket::new_v4().expect("a socket");
    taken
        .bind(([127, 0, 0, 1], 0).into())
        .expect("a port of its own");
    let port = taken.local_addr().expect("bound").port();
    let nobody = PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(port);
    let proxy = FaultProxy::start(&nobody).await.expect("a proxy");
    let refused = proxy.connect_options(&nobody).connect().await;
    assert!(matches!(refused, Err(sqlx::Error::Io(_))), "{refused:?}");
}
