//! What processes share over Redis, and that nothing has to be believed that is there.

mod support;

use std::net::Ipv4Addr;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use sqlx::postgres::PgConnectOptions;
use support::authz::{READ, Stage, eventually, in_time, until};
use support::redis::{RedisServer, free_port, url};
use tenantry::testing::FaultProxy;
use tenantry::{Authorizer, Decision, ErrorKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use Decision::{Denied, Granted, Unknown};

/// As another process would have it.
async fn authorizer(stage: &Stage, redis: &str) -> Authorizer {
    let builder = Authorizer::builder().subscription(stage.world.app.clone());
    // So that no answer of Redis is late on a busy machine.
    let builder = builder.redis(redis).redis_timeout(Duration::from_secs(20));
    builder.build().await.expect("an authorizer")
}

async fn connect(url: &str) -> MultiplexedConnection {
    let client = redis::Client::open(url).expect("an address");
    client
        .get_multiplexed_async_connection()
        .await
        .expect("a connection")
}

async fn keys(connection: &mut MultiplexedConnection) -> Vec<String> {
    let mut keys: Vec<String> = redis::cmd("KEYS")
        .arg("*")
        .query_async(connection)
        .await
        .expect("keys");
    keys.sort();
    keys
}

async fn value(connection: &mut MultiplexedConnection, key: &str) -> Vec<u8> {
    let value = redis::cmd("GET").arg(key).query_async(connection).await;
    value.expect("a value")
}

/// Waits until a process that found them damaged has told Redis anew, and nothing is under way.
async fn put_right(connection: &mut MultiplexedConnection, keys: &[String], values: &[Vec<u8>]) {
    eventually("they are right", async || {
        let mut right = 0;
        for (key, right_one) in keys.iter().zip(values) {
            let found = redis::cmd("GET")
                .arg(key)
                .query_async::<Vec<u8>>(connection)
                .await;
            right += usize::from(found.is_ok_and(|found| found == *right_one));
        }
        right == keys.len()
    })
    .await;
}

/// Members without a role, beside `alice`.
async fn users(stage: &Stage, id: &str, users: &[&str]) {
    for user in users {
        stage
            .sql(&format!(
                "INSERT INTO tenantry.members (tenant_id, user_id) VALUES ('{id}', '{user}')"
            ))
            .await;
    }
}

/// One process has found out about `alice` and `eve` of each tenant, and told Redis.
async fn known(stage: &Stage, tenants: &[&str], url: &str) -> Authorizer {
    let first = authorizer(stage, url).await;
    for id in tenants {
        for (user, decision) in [("alice", Granted), ("eve", Denied)] {
            let scope = stage.scope(id, user).await;
            assert_eq!(first.check(&scope, &READ).await, decision);
        }
    }
    let mut connection = connect(url).await;
    eventually("it is written", async || {
        keys(&mut connection).await.len() == 2 * tenants.len()
    })
    .await;
    first
}

#[tokio::test]
async fn what_one_process_found_out_the_next_one_has_in_one_round_trip() {
    let (stage, server) = (Stage::new(&["a"]).await, RedisServer::start().await);
    known(&stage, &["a"], &server.url()).await;
    let address = PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(server.port());
    let wire = FaultProxy::start(&address).await.expect("a proxy");
    let port = wire.port();
    let second = authorizer(&stage, &url(port)).await;
    // The first of a tenant is asked for: with the answer comes which epoch it is.
    let (eve, alice) = (
        stage.scope("a", "eve").await,
        stage.scope("a", "alice").await,
    );
    assert_eq!(second.check(&eve, &READ).await, Denied);
    assert_eq!(
        (second.status().asked, second.status().found_in_redis),
        (1, 0)
    );
    // What it tells Redis itself is under way, and opens the connection.
    eventually("connected", async || wire.counts().round_trips() > 0).await;
    let mut connection = connect(&server.url()).await;
    let mut quiet = (0, 0);
    eventually("nothing is under way", async || {
        quiet = if quiet.0 == wire.counts().round_trips() {
            (quiet.0, quiet.1 + 1)
        } else {
            (wire.counts().round_trips(), 0)
        };
        keys(&mut connection).await.len() == 2 && quiet.1 > 100
    })
    .await;
    let trips = wire.counts().round_trips();
    assert_eq!(second.check(&alice, &READ).await, Granted);
    assert_eq!(
        (second.status().asked, second.status().found_in_redis),
        (1, 1)
    );
    assert_eq!(wire.counts().round_trips(), trips + 1);
    // And then it is known here.
    assert_eq!(second.check(&alice, &READ).await, Granted);
    assert_eq!(wire.counts().round_trips(), trips + 1);
}

#[tokio::test]
async fn what_is_there_from_before_a_revocation_is_not_believed() {
    let (stage, server) = (Stage::new(&["a"]).await, RedisServer::start().await);
    let first = known(&stage, &["a"], &server.url()).await;
    let (eve, alice) = (
        stage.scope("a", "eve").await,
        stage.scope("a", "alice").await,
    );
    stage.revoke("a").await;
    eventually("it is heard", async || first.status().entries == 0).await;
    for authorizer in [first, authorizer(&stage, &server.url()).await] {
        assert_eq!(authorizer.check(&eve, &READ).await, Denied);
        assert_eq!(authorizer.check(&alice, &READ).await, Denied);
        assert_eq!(authorizer.check(&alice, &READ).await, Denied);
    }
}

#[tokio::test]
async fn what_is_there_is_believed_of_nobody_else() {
    let (stage, server) = (Stage::new(&["a", "b"]).await, RedisServer::start().await);
    known(&stage, &["a", "b"], &server.url()).await;
    let mut connection = connect(&server.url()).await;
    let keys = keys(&mut connection).await;
    let mut values = Vec::new();
    for key in &keys {
        let value = value(&mut connection, key).await;
        // Nothing that says who it is.
        for secret in ["alice", "eve"] {
            assert!(!key.contains(secret));
            assert!(
                !value
                    .windows(secret.len())
                    .any(|part| part == secret.as_bytes())
            );
        }
        values.push(value);
    }
    // Each in the place of each other one.
    for turn in 1..keys.len() {
        for (at, key) in keys.iter().enumerate() {
            let value = &values[(at + turn) % keys.len()];
            let () = redis::cmd("SET")
                .arg(key)
                .arg(value)
                .query_async(&mut connection)
                .await
                .expect("set");
        }
        let second = authorizer(&stage, &server.url()).await;
        for id in ["a", "b"] {
            for (user, decision) in [("eve", Denied), ("alice", Granted)] {
                let scope = stage.scope(id, user).await;
                assert_eq!(second.check(&scope, &READ).await, decision, "{id} {user}");
            }
        }
        assert_eq!(second.status().found_in_redis, 0);
        put_right(&mut connection, &keys, &values).await;
    }
}

#[tokio::test]
async fn what_is_damaged_is_ignored() {
    let (stage, server) = (Stage::new(&["a"]).await, RedisServer::start().await);
    known(&stage, &["a"], &server.url()).await;
    let mut connection = connect(&server.url()).await;
    let keys = keys(&mut connection).await;
    let mut values = Vec::new();
    for key in &keys {
        values.push(value(&mut connection, key).await);
    }
    let damages: [(&str, &[&str]); 7] = [
        ("SET", &[""]),
        (
            "SET",
            &["{\"member\":true,\"granted\":[\"*:*\"],\"denied\":[]}"],
        ),
        (
            "SET",
            &[
                "                                {\"member\":true,\"granted\":[\"*:*\"],\"denied\":[]}",
            ],
        ),
        ("SETRANGE", &["40", "X"]),
        ("SETRANGE", &["3000000", "X"]),
        ("DEL", &[]),
        ("LPUSH", &["a", "list"]),
    ];
    for (command, arguments) in damages {
        for key in &keys {
            if command == "LPUSH" {
                let () = redis::cmd("DEL")
                    .arg(key)
                    .query_async(&mut connection)
                    .await
                    .expect("gone");
            }
            let mut command = redis::cmd(command);
            command.arg(key).arg(arguments);
            let _: redis::Value = command.query_async(&mut connection).await.expect("damaged");
        }
        let second = authorizer(&stage, &server.url()).await;
        for (user, decision) in [("eve", Denied), ("alice", Granted)] {
            let scope = stage.scope("a", user).await;
            assert_eq!(
                second.check(&scope, &READ).await,
                decision,
                "{command} {arguments:?}"
            );
        }
        assert_eq!(second.status().found_in_redis, 0, "{command} {arguments:?}");
        assert_eq!(second.status().asked, 2, "{command} {arguments:?}");
        put_right(&mut connection, &keys, &values).await;
    }
}

#[tokio::test]
async fn redis_may_be_down_and_come_back() {
    let stage = Stage::new(&["a"]).await;
    users(&stage, "a", &["u1", "u2", "u3"]).await;
    let port = free_port();
    let builder = Authorizer::builder().subscription(stage.world.app.clone());
    let authorizer = builder
        .redis(url(port))
        .build()
        .await
        .expect("it need not be up");
    let alice = stage.scope("a", "alice").await;
    until(&authorizer, &alice, Granted).await;
    for user in ["u1", "u2"] {
        let scope = stage.scope("a", user).await;
        assert_eq!(in_time(authorizer.check(&scope, &READ)).await, Some(Denied));
    }
    let server = RedisServer::start_on(port).await;
    let mut connection = connect(&server.url()).await;
    let mut n = 0;
    eventually("it is told again", async || {
        n += 1;
        let scope = stage.scope("a", &format!("new{n}")).await;
        assert_eq!(authorizer.check(&scope, &READ).await, Denied);
        tokio::time::sleep(Duration::from_millis(50)).await;
        !keys(&mut connection).await.is_empty()
    })
    .await;
    drop((connection, server));
    let u3 = stage.scope("a", "u3").await;
    assert_eq!(in_time(authorizer.check(&u3, &READ)).await, Some(Denied));
    // Nor does it grant anything when nobody else answers.
    stage.shut(true).await;
    let u1 = stage.scope("a", "u1").await;
    eventually("nobody can tell", async || {
        authorizer.check(&alice, &READ).await == Unknown
            && authorizer.check(&u1, &READ).await == Unknown
    })
    .await;
    let error = authorizer
        .require(&alice, &READ)
        .await
        .expect_err("nobody can tell");
    assert_eq!(error.kind(), ErrorKind::PermissionUnknown);
}

/// In the place of Redis: says this to whatever it is told, or nothing.
async fn impostor(answer: Option<&'static [u8]>) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut heard = [0; 4_096];
                while let Ok(1..) = stream.read(&mut heard).await {
                    if let Some(answer) = answer
                        && stream.write_all(answer).await.is_err()
                    {
                        return;
                    }
                }
            });
        }
    });
    url(port)
}

#[tokio::test]
async fn what_is_no_redis_or_says_nothing_holds_nobody_up() {
    let stage = Stage::new(&["a"]).await;
    let answers: [Option<&[u8]>; 8] = [
        None,
        Some(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        Some(b"$-1\r\n"),
        Some(b"$100\r\nshort\r\n"),
        Some(b"+OK\r\n"),
        Some(b"-ERR out of order\r\n"),
        Some(b"*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
        Some(b"\0\0\0\0\0\0"),
    ];
    for answer in answers {
        let builder = Authorizer::builder().subscription(stage.world.app.clone());
        let builder = builder.redis(impostor(answer).await);
        let authorizer = builder.build().await.expect("it need not be one");
        for n in 0..3 {
            let stranger = stage.scope("a", &format!("stranger{n}")).await;
            let decision = in_time(authorizer.check(&stranger, &READ)).await;
            assert_eq!(decision, Some(Denied), "{answer:?}");
        }
        let alice = stage.scope("a", "alice").await;
        assert_eq!(
            in_time(authorizer.check(&alice, &READ)).await,
            Some(Granted),
            "{answer:?}"
        );
        assert_eq!(authorizer.status().found_in_redis, 0, "{answer:?}");
    }
}

#[tokio::test]
async fn redis_needs_an_address_and_a_subscription() {
    let stage = Stage::new(&["a"]).await;
    let subscribed = || Authorizer::builder().subscription(stage.world.app.clone());
    for builder in [
        Authorizer::builder().redis("redis://127.0.0.1/"),
        subscribed().redis("no address: secret"),
        subscribed().redis("http://127.0.0.1/"),
        subscribed()
            .redis("redis://127.0.0.1/")
            .redis_timeout(Duration::ZERO),
    ] {
        assert!(!format!("{builder:?}").contains("127.0.0.1"));
        let error = builder.build().await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidOption);
        assert!(!error.to_string().contains("secret"));
    }
}
