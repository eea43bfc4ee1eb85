//! Who may: members, by the layer, by the argument of a handler.

use sqlx::{AssertSqlSafe, Executor as _};
use tenantry::Authorizer;
use tenantry::sql::{Installation, TenantType};

use crate::client::{A, B};
use crate::service::{Framework, Service, Stand};
use crate::support::World;

/// `clerk` may write notes, `guest` is a member who may not, and `mallory` is one of the other
/// tenant, where she may.
async fn guarded<F: Framework>() -> Stand {
    let authorizer = Authorizer::builder().build().await.expect("built");
    let stand = Stand::start_with::<F>(|service| Service {
        tenants: service.tenants.clone().authorizer(authorizer),
        ..service
    })
    .await;
    roles(&stand.world).await;
    stand
}

async fn roles(world: &World) {
    let mut admin = world.admin().await;
    let role = |tenant: &str, user: &str| {
        format!(
            "INSERT INTO tenantry.members (tenant_id, user_id) VALUES ('{tenant}', '{user}'); \
             INSERT INTO tenantry.roles (tenant_id, role) VALUES ('{tenant}', 'of {user}'); \
             INSERT INTO tenantry.member_roles (tenant_id, user_id, role) \
               VALUES ('{tenant}', '{user}', 'of {user}');"
        )
    };
    let grant = |tenant: &str, user: &str, action: &str| {
        format!(
            "INSERT INTO tenantry.role_permissions (tenant_id, role, resource, action, effect) \
               VALUES ('{tenant}', 'of {user}', 'notes', '{action}', 'grant');"
        )
    };
    Installation::new("app")
        .tenant_column("tenant_id", TenantType::Text)
        .authorization()
        .apply(&mut admin)
        .await
        .expect("tables of roles");
    let rows = [
        role(A, "clerk"),
        grant(A, "clerk", "create"),
        role(A, "guest"),
        grant(A, "guest", "read"),
        role(B, "mallory"),
        grant(B, "mallory", "create"),
    ];
    admin
        .execute(AssertSqlSafe(rows.concat()))
        .await
        .expect("roles");
}

const GUARDED: [&str; 2] = ["/guarded/layer", "/guarded/argument"];

pub async fn only_who_may_gets_through<F: Framework>() {
    let stand = guarded::<F>().await;
    for path in GUARDED {
        for (who, expected) in [
            ("guest", "403 permission-denied"),
            ("mallory", "403 not-a-member"),
            ("nobody", "403 not-a-member"),
        ] {
            let write = stand.post_as(A, who, path, "not to be");
            assert_eq!(write.send().await.rejection(), expected, "{path} {who}");
        }
        let granted = stand.post_as(A, "clerk", path, path).send().await;
        assert_eq!(granted.status, 201, "{path} {granted:?}");
        let granted = stand
            .post_as(B, "mallory", path, "of the other")
            .send()
            .await;
        assert_eq!(granted.status, 201, "{path}");
        // Under her own name only.
        let write = stand.post_as(B, "clerk", path, "not to be").send().await;
        assert_eq!(write.rejection(), "403 not-a-member", "{path}");
    }
    let kept = stand.kept().await;
    assert_eq!(
        kept,
        [
            "/guarded/argument",
            "/guarded/layer",
            "of the other",
            "of the other"
        ]
    );
    // A member is let in where nothing more is required, and nobody else.
    let write = stand
        .post_as(A, "guest", "/notes", "of a guest")
        .send()
        .await;
    assert_eq!(write.status, 201);
    let write = stand
        .post_as(A, "mallory", "/notes", "not to be")
        .send()
        .await;
    assert_eq!(write.rejection(), "403 not-a-member");
}

/// Whoever cannot be asked about is not let through.
pub async fn unknown_is_not_granted<F: Framework>() {
    let stand = guarded::<F>().await;
    for path in GUARDED {
        let write = stand.post_as("unreachable-1", "clerk", path, "not to be");
        let answer = write.send().await;
        let told = answer.rejection();
        assert!(told.starts_with("503 permission-unknown after "), "{told}");
    }
    let mut admin = stand.world.admin().await;
    admin
        .execute("DROP TABLE tenantry.members CASCADE")
        .await
        .expect("dropped");
    for path in GUARDED {
        let write = stand.post_as(A, "clerk", path, "not to be").send().await;
        assert_eq!(write.rejection(), "500 internal", "{path}");
    }
    assert!(stand.kept().await.is_empty());
}

pub async fn requirement_without_an_authorizer_lets_nobody_through<F: Framework>() {
    let stand = Stand::start::<F>().await;
    for path in GUARDED {
        let write = stand.post_as(A, "clerk", path, "not to be").send().await;
        assert_eq!(write.rejection(), "500 internal", "{path}");
    }
    stand.logged("ERROR", "has no authorizer: nobody gets through");
    assert!(stand.kept().await.is_empty());
}

/// Actix extracts all arguments at once: the check must not wait for the connection that the
/// transaction of its own request has taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn actix_checks_before_it_begins_whatever_the_order() {
    let stand = guarded::<crate::in_actix::Actix>().await;
    let path = "/guarded/argument-after";
    let granted = stand.post_as(A, "clerk", path, "granted").send().await;
    assert_eq!(granted.status, 201, "{granted:?}");
    let denied = stand.post_as(A, "guest", path, "not to be").send().await;
    assert_eq!(denied.rejection(), "403 permission-denied");
    assert_eq!(stand.kept().await, ["granted"]);
}
