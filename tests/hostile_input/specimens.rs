//! What the corpus does where values are put into texts by hand, and where names go to the server as
//! they come: the checks beside this file can see.

use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection};

use crate::corpus;
use crate::support::{World, world};

/// Texts of the corpus after which the session has the context of somebody else, or another role.
async fn interpreted(world: &World, quote: impl Fn(&str) -> String) -> usize {
    let mut count = 0;
    for text in corpus::texts().iter().filter(|text| text.len() < 300) {
        let mut session = world.admin().await;
        let set = format!(
            "SET app.tenant_id = 'a'; SET app.user_id = {}; SELECT 1",
            quote(text)
        );
        let _ = session.execute(AssertSqlSafe(set)).await;
        count += usize::from(tenant_of(&mut session).await != "a");
        session.close().await.expect("closed");
    }
    count
}

async fn tenant_of(session: &mut PgConnection) -> String {
    let tenant = sqlx::query_scalar("SELECT current_setting('app.tenant_id', true)");
    let tenant: Option<String> = tenant.fetch_one(session).await.expect("a setting");
    // A message that was refused as a whole has set nothing, which is no harm.
    match tenant.as_deref() {
        None | Some("") => "a".to_owned(),
        Some(tenant) => tenant.to_owned(),
    }
}

#[tokio::test]
async fn values_quoted_by_hand_change_the_tenant() {
    let world = world(&["a", "b"]).await;
    assert!(interpreted(&world, |text| format!("'{text}'")).await > 0);

    // Doubling the quotes helps until the server reads backslashes.
    let doubled = |text: &str| format!("'{}'", text.replace('\'', "''"));
    assert_eq!(interpreted(&world, doubled).await, 0);
    let mut admin = world.admin().await;
    admin
        .execute(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET standard_conforming_strings = off', \
             current_database()); END $$",
        )
        .await
        .expect("set");
    assert!(interpreted(&world, doubled).await > 0);
}

#[tokio::test]
async fn name_of_a_database_brings_another_role() {
    let world = world(&["a"]).await;
    let name = world.app.get_database().expect("named").to_owned();
    let as_app = world
        .app
        .clone()
        .database(&format!("{name}\0user\0postgres"));
    let mut session = as_app.connect().await.expect("connected");
    let role: String = sqlx::query_scalar("SELECT current_user::text")
        .fetch_one(&mut session)
        .await
        .expect("a role");
    assert_eq!(role, "postgres", "sqlx sends what it is given");
}
