//! Who may do what: what is granted, and how soon it no longer is.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use support::authz::{READ, Stage, WRITE, eventually, in_time, registry, scope, until};
use support::tenant;
use tenantry::sql::TenantType;
use tenantry::testing::FaultProxy;
use tenantry::{
    Authorizer, Decision, Error, ErrorKind, Permission, Placement, RoleAdmin, StaticDirectory,
    TenantContext, TenantRecord, TenantScope, TenantState,
};

use Decision::{Denied, Granted, Unknown};

fn kind(outcome: Result<(), Error>) -> Option<ErrorKind> {
    outcome.err().map(|error| error.kind())
}

fn permission(text: &str) -> Permission {
    text.parse().expect("a permission")
}

/// Changes the roles of a tenant as a service does, in a transaction of its own.
macro_rules! change {
    ($scope:expr, |$roles:ident| $body:block) => {{
        let mut tx = $scope.begin().await.expect("a transaction");
        {
            let mut $roles = RoleAdmin::new(&mut tx);
            $body
        }
        tx.commit().await.expect("committed");
    }};
}

#[tokio::test]
async fn granted_denied_and_unknown_are_told_apart() {
    let stage = Stage::new(&["a"]).await;
    let (alice, eve) = (
        stage.scope("a", "alice").await,
        stage.scope("a", "eve").await,
    );
    let nobody = TenantContext::new(tenant("a"));
    let nobody = stage.registry.scope(nobody).await.expect("a scope");
    let plain = Authorizer::builder().timeout(Duration::from_secs(30));
    for authorizer in [
        plain.build().await.expect("one that caches nothing"),
        stage.authorizer().await,
    ] {
        assert_eq!(authorizer.check(&alice, &READ).await, Granted);
        assert_eq!(kind(authorizer.require(&alice, &READ).await), None);
        assert_eq!(kind(authorizer.require_member(&alice).await), None);
        let denied = Some(ErrorKind::PermissionDenied);
        assert_eq!(authorizer.check(&alice, &WRITE).await, Denied);
        assert_eq!(kind(authorizer.require(&alice, &WRITE).await), denied);
        let stranger = Some(ErrorKind::NotAMember);
        for who in [&eve, &nobody] {
            assert_eq!(authorizer.check(who, &READ).await, Denied);
            assert_eq!(kind(authorizer.require(who, &READ).await), stranger);
            assert_eq!(kind(authorizer.require_member(who).await), stranger);
        }
    }
    let (plain, following) = (
        Authorizer::builder().build().await.expect("one"),
        stage.authorizer().await,
    );
    stage.shut(true).await;
    for authorizer in [plain, following] {
        eventually("nobody can tell", async || {
            authorizer.check(&alice, &READ).await == Unknown
        })
        .await;
        let error = authorizer
            .require(&alice, &READ)
            .await
            .expect_err("it is down");
        assert_eq!(error.kind(), ErrorKind::PermissionUnknown);
        assert!(error.is_retryable());
        let unknown = Some(ErrorKind::PermissionUnknown);
        assert_eq!(kind(authorizer.require_member(&alice).await), unknown);
    }
}

#[tokio::test]
async fn a_deny_beats_every_grant_through_inheritance_too() {
    let stage = Stage::new(&["a"]).await;
    let alice = stage.scope("a", "alice").await;
    let authorizer = stage.authorizer().await;
    change!(alice, |roles| {
        for role in ["top", "middle", "bottom"] {
            assert!(roles.create(role).await.expect("a role"));
        }
        assert!(roles.inherit("top", "middle").await.expect("inherited"));
        assert!(roles.inherit("middle", "bottom").await.expect("inherited"));
        assert!(
            roles
                .grant("bottom", &"cases:*".parse().expect("a pattern"))
                .await
                .expect("granted")
        );
        assert!(
            roles
                .grant("top", &"*:close".parse().expect("a pattern"))
                .await
                .expect("granted")
        );
        assert!(roles.assign("alice", "top").await.expect("assigned"));
    });
    let (open, close) = (permission("cases:open"), permission("cases:close"));
    let decided = async |permission: &Permission, decision: Decision| {
        eventually("it is so", async || {
            authorizer.check(&alice, permission).await == decision
        })
        .await;
    };
    decided(&open, Granted).await;
    decided(&close, Granted).await;
    decided(&permission("files:close"), Granted).await;
    decided(&permission("files:open"), Denied).await;
    // At the bottom, of one action on anything.
    change!(alice, |roles| {
        assert!(
            roles
                .deny("bottom", &"*:close".parse().expect("a pattern"))
                .await
                .expect("denied")
        );
    });
    decided(&close, Denied).await;
    decided(&permission("files:close"), Denied).await;
    decided(&open, Granted).await;
    change!(alice, |roles| {
        assert!(
            roles
                .withdraw("bottom", &"*:close".parse().expect("a pattern"))
                .await
                .expect("withdrawn")
        );
        assert!(
            roles
                .deny("clerk", &"*:*".parse().expect("a pattern"))
                .await
                .expect("denied")
        );
    });
    decided(&open, Denied).await;
    change!(alice, |roles| {
        assert!(roles.revoke("alice", "clerk").await.expect("revoked"));
        assert!(
            roles
                .disinherit("top", "middle")
                .await
                .expect("disinherited")
        );
    });
    decided(&open, Denied).await;
    decided(&close, Granted).await;
}

#[tokio::test]
async fn each_change_of_roles_says_whether_it_made_a_difference() {
    let stage = Stage::new(&["a", "b"]).await;
    let scope = stage.scope("a", "alice").await;
    let mut tx = scope.begin().await.expect("a transaction");
    let mut roles = RoleAdmin::new(&mut tx);
    let pattern = "x:*".parse().expect("a pattern");
    for first in [true, false] {
        assert_eq!(roles.add_member("bob").await.ok(), Some(first));
        assert_eq!(roles.create("r").await.ok(), Some(first));
        assert_eq!(roles.inherit("r", "clerk").await.ok(), Some(first));
        assert_eq!(roles.assign("bob", "r").await.ok(), Some(first));
        assert_eq!(roles.grant("r", &pattern).await.ok(), Some(first));
    }
    for first in [true, false] {
        assert_eq!(roles.deny("r", &pattern).await.ok(), Some(first));
    }
    for first in [true, false] {
        assert_eq!(roles.withdraw("r", &pattern).await.ok(), Some(first));
        assert_eq!(roles.revoke("bob", "r").await.ok(), Some(first));
        assert_eq!(roles.disinherit("r", "clerk").await.ok(), Some(first));
        assert_eq!(roles.remove("r").await.ok(), Some(first));
        assert_eq!(roles.remove_member("bob").await.ok(), Some(first));
    }
    tx.commit().await.expect("committed");

    let mut tx = scope.begin().await.expect("a transaction");
    let missing = RoleAdmin::new(&mut tx).assign("alice", "nothing").await;
    assert_eq!(
        missing.expect_err("no such role").kind(),
        ErrorKind::NotFound
    );
    let mut tx = scope.begin().await.expect("a transaction");
    let circle = RoleAdmin::new(&mut tx).inherit("clerk", "clerk").await;
    let circle = circle.expect_err("a circle");
    assert_eq!(circle.constraint(), Some("role_parents_acyclic"));
    assert_eq!(circle.kind(), ErrorKind::Database);
}

#[tokio::test]
async fn what_is_known_is_asked_for_once() {
    let stage = Stage::new(&["a", "b"]).await;
    let authorizer = stage.authorizer().await;
    for _ in 0..100 {
        for (id, user, decision) in [
            ("a", "alice", Granted),
            ("b", "alice", Granted),
            ("a", "eve", Denied),
        ] {
            let scope = stage.scope(id, user).await;
            assert_eq!(
                authorizer.check(&scope, &READ).await,
                decision,
                "{id} {user}"
            );
        }
    }
    assert_eq!(authorizer.status().asked, 3);
    // Two tenants, three users.
    assert_eq!(authorizer.status().entries, 5);
    // At the first poll.
    let scope = stage.scope("a", "alice").await;
    assert_eq!(
        authorizer.check(&scope, &READ).now_or_never(),
        Some(Granted)
    );
    // A clone knows the same; what another one of this process knows is its own.
    assert_eq!(
        authorizer.clone().check(&scope, &READ).now_or_never(),
        Some(Granted)
    );
}

#[tokio::test]
async fn what_is_known_of_one_tenant_answers_for_no_other() {
    // As close to each other as ids can be, in what may stand in a key or a pattern.
    let tenants = [
        "a", "A", "a-b", "a_b", "a.b", "ab", "aa", "a1", "1", "11", "0",
    ];
    let users = [
        "alice",
        "Alice",
        "alice ",
        "a:alice",
        "%",
        "*",
        "\u{1}",
        "b",
        "é",
        "a\u{0301}",
        "'--",
    ];
    let stage = Stage::new(&[]).await;
    let mut values = Vec::new();
    for (n, id) in tenants.iter().enumerate() {
        for (m, user) in users.iter().enumerate() {
            let user = user.replace('\'', "''");
            values.push(format!("('{id}', '{user}', 'n{n}m{m}')"));
        }
    }
    stage
        .sql(&format!(
            "CREATE TEMPORARY TABLE x (t text, u text, r text); INSERT INTO x VALUES {};
             INSERT INTO tenantry.members (tenant_id, user_id) SELECT t, u FROM x;
             INSERT INTO tenantry.roles (tenant_id, role) SELECT t, r FROM x;
             INSERT INTO tenantry.role_permissions (tenant_id, role, resource, action, effect)
               SELECT t, r, r, 'x', 'grant' FROM x;
             INSERT INTO tenantry.member_roles (tenant_id, user_id, role) SELECT t, u, r FROM x;",
            values.join(",")
        ))
        .await;
    // Behind the changes, so that none of them is still to be heard of.
    let authorizer = stage.authorizer().await;
    for _ in 0..2 {
        for (n, id) in tenants.iter().enumerate() {
            for (m, user) in users.iter().enumerate() {
                let scope = stage.scope(id, user).await;
                for (of, other) in [
                    (n, m),
                    ((n + 1) % tenants.len(), m),
                    (n, (m + 1) % users.len()),
                ] {
                    let asked = permission(&format!("n{of}m{other}:x"));
                    let decision = authorizer.check(&scope, &asked).await;
                    assert_eq!(
                        decision.is_granted(),
                        (of, other) == (n, m),
                        "{id} {user:?} {asked}"
                    );
                }
            }
        }
    }
    let asked = authorizer.status().asked as usize;
    assert_eq!(
        asked,
        tenants.len() * users.len(),
        "each once: it was known the second time"
    );
}

/// Checks as often as it can, and says how many checks that began at that time or later let through.
struct Checkers {
    since: Arc<parking_lot::Mutex<Option<Instant>>>,
    stop: Arc<AtomicBool>,
    late: Arc<AtomicUsize>,
    let_through: Arc<AtomicUsize>,
    before: Arc<AtomicUsize>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Checkers {
    fn start(authorizer: &Authorizer, scope: &TenantScope) -> Self {
        let mut checkers = Self {
            since: Arc::default(),
            stop: Arc::default(),
            late: Arc::default(),
            let_through: Arc::default(),
            before: Arc::default(),
            tasks: Vec::new(),
        };
        for _ in 0..2 {
            let (since, stop) = (Arc::clone(&checkers.since), Arc::clone(&checkers.stop));
            let (late, let_through) = (
                Arc::clone(&checkers.late),
                Arc::clone(&checkers.let_through),
            );
            let before = Arc::clone(&checkers.before);
            let (authorizer, scope) = (authorizer.clone(), scope.clone());
            checkers.tasks.push(tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let begun = Instant::now();
                    let granted = authorizer.check(&scope, &READ).await.is_granted();
                    if since.lock().is_some_and(|since| since <= begun) {
                        late.fetch_add(1, Ordering::SeqCst);
                        let_through.fetch_add(usize::from(granted), Ordering::SeqCst);
                    } else {
                        before.fetch_add(usize::from(granted), Ordering::SeqCst);
                    }
                    tokio::task::yield_now().await;
                }
            }));
        }
        checkers
    }

    /// Waits for 10,000 checks that began from `since` on.
    async fn finish(self, since: Instant) -> usize {
        *self.since.lock() = Some(since);
        eventually("ten thousand checks", async || {
            self.late.load(Ordering::SeqCst) >= 10_000
        })
        .await;
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.expect("no panic");
        }
        assert!(
            self.before.load(Ordering::SeqCst) > 0,
            "it was granted before"
        );
        self.let_through.load(Ordering::SeqCst)
    }
}

const BOUND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_gets_through_a_second_after_a_revocation_in_another_process() {
    let stage = Stage::new(&["a"]).await;
    // The other process: a registry and an authorizer of its own.
    let elsewhere = scope(&registry(&stage.directory).await, "a", "bob").await;
    let (authorizer, alice) = (stage.authorizer().await, stage.scope("a", "alice").await);
    for _ in 0..3 {
        until(&authorizer, &alice, Granted).await;
        let checkers = Checkers::start(&authorizer, &alice);
        eventually("some", async || {
            checkers.before.load(Ordering::SeqCst) > 100
        })
        .await;
        change!(elsewhere, |roles| {
            assert!(roles.revoke("alice", "clerk").await.expect("revoked"));
        });
        let acknowledged = Instant::now();
        assert_eq!(checkers.finish(acknowledged + BOUND).await, 0);
        stage.assign("a").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_gets_through_once_a_revocation_was_heard_of() {
    let stage = Stage::new(&["a"]).await;
    let (authorizer, alice) = (stage.authorizer().await, stage.scope("a", "alice").await);
    until(&authorizer, &alice, Granted).await;
    assert_eq!(authorizer.status().entries, 2);
    stage.revoke("a").await;
    // Nobody asks, so that nothing is known anew.
    eventually("it is heard", async || authorizer.status().entries == 0).await;
    for _ in 0..10_000 {
        assert_eq!(authorizer.check(&alice, &READ).await, Denied);
    }
    // A change in one tenant costs the others nothing.
    let asked = authorizer.status().asked;
    stage
        .sql("INSERT INTO tenantry.members (tenant_id, user_id) VALUES ('b', 'x')")
        .await;
    stage
        .sql("INSERT INTO tenantry.members (tenant_id, user_id) VALUES ('a', 'x')")
        .await;
    eventually("it is heard", async || authorizer.status().entries == 0).await;
    assert_eq!(authorizer.status().asked, asked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_gets_through_a_second_after_though_the_subscription_is_frozen() {
    let stage = Stage::new(&["a"]).await;
    let wire = FaultProxy::start(&stage.world.app).await.expect("a proxy");
    let authorizer = Authorizer::builder().subscription(wire.connect_options(&stage.world.app));
    let authorizer = authorizer.build().await.expect("an authorizer");
    let alice = stage.scope("a", "alice").await;
    until(&authorizer, &alice, Granted).await;
    assert!(authorizer.status().is_following);
    let checkers = Checkers::start(&authorizer, &alice);
    eventually("some", async || {
        checkers.before.load(Ordering::SeqCst) > 100
    })
    .await;
    wire.freeze_existing();
    stage.revoke("a").await;
    let acknowledged = Instant::now();
    eventually("it has noticed", async || !authorizer.status().is_following).await;
    assert_eq!(checkers.finish(acknowledged + BOUND).await, 0);
    // It gives the connection up for a new one, which works.
    eventually("it hears again", async || authorizer.status().is_following).await;
    stage.assign("a").await;
    until(&authorizer, &alice, Granted).await;
}

#[tokio::test]
async fn an_answer_vouches_from_when_it_was_asked_for_not_from_when_it_came() {
    let stage = Stage::new(&["a"]).await;
    // There and back takes longer than the bound.
    let wire = FaultProxy::start(&stage.world.app).await.expect("a proxy");
    wire.set_latency(Duration::from_millis(600));
    let authorizer = Authorizer::builder().subscription(wire.connect_options(&stage.world.app));
    let authorizer = authorizer.build().await.expect("an authorizer");
    let alice = stage.scope("a", "alice").await;
    let trips = wire.counts().round_trips();
    let mut asked = authorizer.status().asked;
    while wire.counts().round_trips() < trips + 3 {
        assert!(!authorizer.status().is_following);
        assert_eq!(authorizer.check(&alice, &READ).await, Granted);
        asked += 1;
        assert_eq!(authorizer.status().asked, asked);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_subscription_counts_no_longer_and_comes_back_knowing_nothing() {
    let stage = Stage::new(&["a"]).await;
    // A role of its own, so that it can be locked out alone.
    let role = format!("listener_{}", std::process::id());
    stage
        .sql(&format!("CREATE ROLE {role} LOGIN IN ROLE app"))
        .await;
    let following = stage.world.app.clone().username(&role);
    let authorizer = Authorizer::builder().subscription(following);
    let authorizer = authorizer.build().await.expect("an authorizer");
    let alice = stage.scope("a", "alice").await;
    until(&authorizer, &alice, Granted).await;
    stage
        .sql(&format!(
            "ALTER ROLE {role} NOLOGIN;
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'"
        ))
        .await;
    eventually("it has noticed", async || !authorizer.status().is_following).await;
    let asked = authorizer.status().asked;
    for _ in 0..3 {
        assert_eq!(authorizer.check(&alice, &READ).await, Granted);
    }
    assert_eq!(authorizer.status().asked, asked + 3, "the database answers");
    // What was found out meanwhile is not believed later: nobody was told of this.
    stage.revoke("a").await;
    stage.sql(&format!("ALTER ROLE {role} LOGIN")).await;
    eventually("it hears again", async || authorizer.status().is_following).await;
    for _ in 0..10 {
        assert_eq!(authorizer.check(&alice, &READ).await, Denied);
    }
}

#[tokio::test]
async fn a_subscription_that_says_nothing_new_is_not_believed_forever() {
    // Everything but the answers to what was asked: a session that is not our own.
    let stage = Stage::new(&["a"]).await;
    let authorizer = stage.authorizer().await;
    let alice = stage.scope("a", "alice").await;
    until(&authorizer, &alice, Granted).await;
    // Anybody may say anything on the channel; it costs a question at most.
    for payload in ["", "a", "b", "no tenant!", &"x".repeat(7_000), "a old", "'"] {
        let payload = payload.replace('\'', "''");
        stage
            .sql(&format!(
                "SELECT pg_notify('tenantry_authorization', '{payload}')"
            ))
            .await;
        assert_eq!(authorizer.check(&alice, &READ).await, Granted);
    }
    assert!(authorizer.status().is_following);
}

/// Holds up those who ask, after their snapshot was taken, for as long as it is held.
struct HeldUp(PgConnection);

impl HeldUp {
    async fn prepare(stage: &Stage) {
        stage
            .sql(
                "CREATE FUNCTION tenantry.test_wait() RETURNS boolean LANGUAGE plpgsql VOLATILE
                   SECURITY DEFINER AS $$ BEGIN
                     PERFORM pg_advisory_xact_lock_shared(42); RETURN true; END $$;
                 CREATE POLICY test_wait ON tenantry.authorization_epochs AS RESTRICTIVE
                   FOR SELECT TO app USING (tenantry.test_wait());",
            )
            .await;
    }

    async fn start(stage: &Stage) -> Self {
        let mut connection = stage.world.admin().await;
        let lock = connection.execute("SELECT pg_advisory_lock(42)");
        lock.await.expect("nobody waits");
        Self(connection)
    }

    /// How many wait.
    async fn waiting(&mut self) -> i64 {
        let sql = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        let count = sqlx::query_scalar(sql).fetch_one(&mut self.0);
        count.await.expect("a count")
    }

    async fn wait_for(&mut self, count: i64) {
        eventually("so many wait", async || self.waiting().await == count).await;
    }

    async fn end(self) {
        self.0.close().await.expect("closed");
    }
}

#[tokio::test]
async fn an_answer_from_before_a_revocation_is_not_kept_behind_it() {
    let stage = Stage::new(&["a"]).await;
    HeldUp::prepare(&stage).await;
    let (authorizer, alice) = (stage.authorizer().await, stage.scope("a", "alice").await);
    // Something else of the tenant is known, so that its changes are heard of as such.
    let eve = stage.scope("a", "eve").await;
    assert_eq!(authorizer.check(&eve, &READ).await, Denied);
    let known = authorizer.status().entries;
    let mut held_up = HeldUp::start(&stage).await;
    let check = tokio::spawn({
        let (authorizer, alice) = (authorizer.clone(), alice.clone());
        async move { authorizer.check(&alice, &READ).await }
    });
    held_up.wait_for(1).await;
    stage.revoke("a").await;
    eventually("it is heard", async || authorizer.status().entries < known).await;
    // Who begins now is not content with the answer that is under way.
    let later = tokio::spawn({
        let (authorizer, alice) = (authorizer.clone(), alice.clone());
        async move { authorizer.check(&alice, &READ).await }
    });
    held_up.wait_for(2).await;
    held_up.end().await;
    assert_eq!(check.await.expect("no panic"), Granted, "it began before");
    assert_eq!(later.await.expect("no panic"), Denied);
    for _ in 0..10 {
        assert_eq!(authorizer.check(&alice, &READ).await, Denied);
    }
}

#[tokio::test]
async fn an_answer_that_takes_longer_than_the_bound_is_not_shared() {
    let stage = Stage::new(&["a"]).await;
    HeldUp::prepare(&stage).await;
    let wire = FaultProxy::start(&stage.world.app).await.expect("a proxy");
    let authorizer = Authorizer::builder().subscription(wire.connect_options(&stage.world.app));
    let authorizer = authorizer.timeout(Duration::from_secs(60)).build();
    let authorizer = authorizer.await.expect("an authorizer");
    let alice = stage.scope("a", "alice").await;
    let mut held_up = HeldUp::start(&stage).await;
    wire.freeze_existing();
    let ask = || {
        let (authorizer, alice) = (authorizer.clone(), alice.clone());
        tokio::spawn(async move { authorizer.check(&alice, &READ).await })
    };
    let early = ask();
    held_up.wait_for(1).await;
    // Nobody hears of it.
    stage.revoke("a").await;
    tokio::time::sleep(BOUND).await;
    let late = ask();
    held_up.wait_for(2).await;
    held_up.end().await;
    assert_eq!(early.await.expect("no panic"), Granted);
    assert_eq!(late.await.expect("no panic"), Denied);
}

#[tokio::test]
async fn those_who_ask_the_same_at_once_ask_once_also_if_the_first_gives_up() {
    let stage = Stage::new(&["a"]).await;
    HeldUp::prepare(&stage).await;
    let (authorizer, alice) = (stage.authorizer().await, stage.scope("a", "alice").await);
    let mut held_up = HeldUp::start(&stage).await;
    let ask = || {
        let (authorizer, alice) = (authorizer.clone(), alice.clone());
        tokio::spawn(async move { authorizer.check(&alice, &READ).await })
    };
    let first = ask();
    held_up.wait_for(1).await;
    let others: Vec<_> = (0..20).map(|_| ask()).collect();
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    first.abort();
    assert!(first.await.expect_err("it was given up").is_cancelled());
    held_up.wait_for(1).await;
    held_up.end().await;
    for other in join_all(others).await {
        assert_eq!(other.expect("no panic"), Granted);
    }
    assert_eq!(authorizer.status().asked, 1);
    // With all of them gone nothing is left: the next one asks anew, and is answered.
    stage.revoke("a").await;
    eventually("it is heard", async || authorizer.status().entries == 0).await;
    let mut held_up = HeldUp::start(&stage).await;
    let alone = ask();
    held_up.wait_for(1).await;
    alone.abort();
    let _ = alone.await;
    let next = ask();
    eventually("it asks anew", async || authorizer.status().asked == 3).await;
    held_up.end().await;
    assert_eq!(
        in_time(next).await.expect("an answer").expect("no panic"),
        Denied
    );
}

#[tokio::test]
async fn what_is_rolled_back_changes_nothing() {
    let stage = Stage::new(&["a"]).await;
    let (authorizer, alice) = (stage.authorizer().await, stage.scope("a", "alice").await);
    assert_eq!(authorizer.check(&alice, &READ).await, Granted);
    let mut tx = alice.begin().await.expect("a transaction");
    RoleAdmin::new(&mut tx)
        .revoke("alice", "clerk")
        .await
        .expect("revoked");
    // Nobody else sees it, nor does it hold up who checks.
    assert_eq!(authorizer.check(&alice, &READ).await, Granted);
    let plain = Authorizer::builder().build().await.expect("one");
    assert_eq!(plain.check(&alice, &READ).await, Granted);
    tx.rollback().await.expect("rolled back");
    // Behind it in the same queue: when this one is heard of, that one would have been.
    stage
        .sql("INSERT INTO tenantry.members (tenant_id, user_id) VALUES ('z', 'x')")
        .await;
    let z = stage.scope("z", "x").await;
    eventually("it is known", async || {
        authorizer.check(&z, &READ).now_or_never() == Some(Denied)
    })
    .await;
    let entries = authorizer.status().entries;
    stage
        .sql("DELETE FROM tenantry.members WHERE tenant_id = 'z'")
        .await;
    eventually("it is heard", async || {
        authorizer.status().entries < entries
    })
    .await;
    assert_eq!(
        authorizer.check(&alice, &READ).now_or_never(),
        Some(Granted)
    );
}

#[tokio::test]
async fn a_member_that_was_removed_is_none() {
    let stage = Stage::new(&["a", "b"]).await;
    let (authorizer, alice) = (stage.authorizer().await, stage.scope("a", "alice").await);
    authorizer.require_member(&alice).await.expect("a member");
    authorizer.require(&alice, &READ).await.expect("granted");
    let elsewhere = scope(&registry(&stage.directory).await, "a", "bob").await;
    change!(elsewhere, |roles| {
        assert!(roles.remove_member("alice").await.expect("removed"));
    });
    eventually("it is heard", async || authorizer.status().entries == 0).await;
    let stranger = Some(ErrorKind::NotAMember);
    assert_eq!(kind(authorizer.require_member(&alice).await), stranger);
    assert_eq!(kind(authorizer.require(&alice, &READ).await), stranger);
    assert_eq!(authorizer.check(&alice, &READ).await, Denied);
    let in_b = stage.scope("b", "alice").await;
    authorizer
        .require_member(&in_b)
        .await
        .expect("a member there");
}

#[tokio::test]
async fn who_lives_in_another_database_is_asked_for_each_time() {
    let (here, there) = (Stage::new(&["a"]).await, Stage::new(&["b"]).await);
    let shared = StaticDirectory::new()
        .shared(here.world.app.clone(), [tenant("a")])
        .shared(there.world.app.clone(), [tenant("b")]);
    let registry = registry(&shared).await;
    let authorizer = here.authorizer().await;
    let (a, b) = (
        scope(&registry, "a", "alice").await,
        scope(&registry, "b", "alice").await,
    );
    for _ in 0..5 {
        assert_eq!(authorizer.check(&a, &READ).await, Granted);
        assert_eq!(authorizer.check(&b, &READ).await, Granted);
    }
    assert_eq!(authorizer.status().asked, 1 + 5);
    there.revoke("b").await;
    assert_eq!(authorizer.check(&b, &READ).await, Denied, "at once");
}

#[tokio::test]
async fn tenants_of_the_same_name_in_two_registries_are_two() {
    let (here, there) = (Stage::new(&["a"]).await, Stage::new(&["a"]).await);
    there.revoke("a").await;
    let authorizer = here.authorizer().await;
    let (one, other) = (
        here.scope("a", "alice").await,
        there.scope("a", "alice").await,
    );
    for _ in 0..3 {
        assert_eq!(authorizer.check(&one, &READ).await, Granted);
        assert_eq!(authorizer.check(&other, &READ).await, Denied);
    }
}

#[tokio::test]
async fn what_is_known_of_a_tenant_is_of_the_place_that_it_lives_in() {
    let (here, there) = (Stage::new(&["a"]).await, Stage::new(&["a"]).await);
    there.revoke("a").await;
    let at = |stage: &Stage| {
        let database = stage.world.app.clone().into();
        TenantRecord::new(Placement::Shared { database })
    };
    here.directory.put(tenant("a"), at(&here));
    let authorizer = here.authorizer().await;
    let alice = here.scope("a", "alice").await;
    until(&authorizer, &alice, Granted).await;
    // It moves, and what it leaves behind is not removed.
    here.directory.put(tenant("a"), at(&there));
    until(&authorizer, &alice, Denied).await;
    here.directory.put(tenant("a"), at(&here));
    until(&authorizer, &alice, Granted).await;
    // What happens to others costs a look at the directory, and no question.
    let asked = authorizer.status().asked;
    for n in 0..20 {
        here.directory.put(tenant(&format!("other{n}")), at(&there));
        tokio::task::yield_now().await;
        assert_eq!(authorizer.check(&alice, &READ).await, Granted);
    }
    assert_eq!(authorizer.status().asked, asked);
    here.directory
        .set_state(&tenant("a"), TenantState::Suspended);
    eventually("it is suspended", async || {
        kind(authorizer.require(&alice, &READ).await) == Some(ErrorKind::TenantSuspended)
    })
    .await;
    assert_eq!(authorizer.check(&alice, &READ).await, Unknown);
}

#[tokio::test]
async fn two_names_of_one_tenant_are_not_known_by_the_wrong_one() {
    let stage = Stage::of(TenantType::BigInt, &["7"]).await;
    let authorizer = stage.authorizer().await;
    let (plain, padded) = (
        stage.scope("7", "alice").await,
        stage.scope("007", "alice").await,
    );
    assert_eq!(authorizer.check(&plain, &READ).await, Granted);
    assert_eq!(authorizer.check(&padded, &READ).await, Granted);
    stage.revoke("7").await;
    eventually("it is heard", async || {
        authorizer.check(&plain, &READ).await == Denied
    })
    .await;
    assert_eq!(authorizer.check(&padded, &READ).await, Denied);
}

#[tokio::test]
async fn a_database_that_says_nothing_is_not_waited_for_forever() {
    let stage = Stage::new(&["a"]).await;
    let wire = FaultProxy::start(&stage.world.app).await.expect("a proxy");
    let directory = StaticDirectory::new().shared_by_all(wire.connect_options(&stage.world.app));
    let alice = scope(&registry(&directory).await, "a", "alice").await;
    let authorizer = Authorizer::builder().timeout(Duration::from_millis(200));
    let authorizer = authorizer.build().await.expect("an authorizer");
    until(&authorizer, &alice, Granted).await;
    wire.freeze_existing();
    let decision = in_time(authorizer.check(&alice, &READ)).await;
    assert_eq!(decision, Some(Unknown));
}

#[tokio::test]
async fn no_more_is_known_than_may_be() {
    let stage = Stage::new(&["a", "b"]).await;
    let authorizer = Authorizer::builder().subscription(stage.world.app.clone());
    let authorizer = authorizer.max_entries(20).build().await.expect("one");
    let alice = stage.scope("b", "alice").await;
    for n in 0..200 {
        let stranger = stage.scope("a", &format!("u{n}")).await;
        assert_eq!(authorizer.check(&stranger, &READ).await, Denied);
        assert_eq!(authorizer.check(&alice, &READ).await, Granted);
        assert!(authorizer.status().entries <= 20);
    }
    // Who is asked for all the time is mostly known.
    let asked = authorizer.status().asked;
    assert!(asked < 200 + 60, "{asked}");
}

#[tokio::test]
async fn an_answer_grows_old_though_nothing_is_heard() {
    let stage = Stage::new(&["a"]).await;
    let authorizer = Authorizer::builder().subscription(stage.world.app.clone());
    let authorizer = authorizer.time_to_live(Duration::from_millis(50)).build();
    let authorizer = authorizer.await.expect("one");
    let alice = stage.scope("a", "alice").await;
    assert_eq!(authorizer.check(&alice, &READ).await, Granted);
    // Past the triggers.
    stage
        .sql("SET session_replication_role = replica; DELETE FROM tenantry.member_roles")
        .await;
    until(&authorizer, &alice, Denied).await;
}

#[tokio::test]
async fn what_is_missing_is_said_when_it_is_built() {
    let world = support::world(&[]).await;
    let built = Authorizer::builder()
        .subscription(world.app.clone())
        .build()
        .await;
    assert_eq!(
        built.expect_err("no tables").kind(),
        ErrorKind::Installation
    );
    let plain = Authorizer::builder().build().await.expect("one");
    let registry = world.registry().await;
    let alice = scope(&registry, "a", "alice").await;
    let missing = Some(ErrorKind::Installation);
    assert_eq!(kind(plain.require(&alice, &READ).await), missing);
    assert_eq!(plain.check(&alice, &READ).await, Unknown);
    let nowhere = world.app.clone().database("nowhere");
    let built = Authorizer::builder().subscription(nowhere).build().await;
    assert_eq!(built.expect_err("no database").kind(), ErrorKind::Connect);
    let zero = Authorizer::builder().timeout(Duration::ZERO).build().await;
    assert_eq!(zero.expect_err("zero").kind(), ErrorKind::InvalidOption);
}

#[tokio::test]
async fn the_connection_ends_with_the_last_clone() {
    let stage = Stage::new(&["a"]).await;
    let sessions = async || {
        let mut admin = stage.world.admin().await;
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'app'";
        let count: i64 = sqlx::query_scalar(sql)
            .fetch_one(&mut admin)
            .await
            .expect("a count");
        count
    };
    let before = sessions().await;
    let authorizer = stage.authorizer().await;
    let clone = authorizer.clone();
    assert_eq!(sessions().await, before + 1);
    drop(authorizer);
    assert!(clone.status().is_following);
    drop(clone);
    eventually("it is closed", async || sessions().await == before).await;
}

/// What the bound rests on: PostgreSQL tells of what was committed, and acknowledged, before a
/// question was sent no later than it answers.
#[tokio::test]
async fn the_server_tells_before_it_answers() {
    use sqlx::postgres::{PgListener, PgPoolOptions};
    let world = support::empty_world().await;
    let pool = PgPoolOptions::new().max_connections(1);
    let pool = pool
        .connect_with(world.admin.clone())
        .await
        .expect("a pool");
    let mut listener = PgListener::connect_with(&pool).await.expect("a listener");
    listener.listen("told").await.expect("listens");
    let mut admin = world.admin().await;
    for n in 0..2_000 {
        let notify = format!("SELECT pg_notify('told', '{n}')");
        admin
            .execute(AssertSqlSafe(notify))
            .await
            .expect("committed");
        let answer = sqlx::raw_sql("SELECT 1").fetch_all(&mut listener).await;
        assert_eq!(answer.expect("an answer").len(), 1);
        let told = listener.next_buffered().map(|it| it.payload().to_owned());
        assert_eq!(told.as_deref(), Some(&*n.to_string()));
    }
}
