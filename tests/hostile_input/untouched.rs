//! Whether something was carried out that should have been kept.

use sqlx::Connection as _;

use crate::support::World;

/// What a database is made of, and who may log in to its server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    relations: Vec<String>,
    notes: Vec<(String, String)>,
    settings: Vec<String>,
    superusers: Vec<String>,
}

/// Of the relations without those in the schemas `ours`, which tests add to.
pub(crate) async fn picture(world: &World, ours: &[&str]) -> Picture {
    let mut admin = world.admin().await;
    let relations = sqlx::query_scalar(
        "SELECT format('%s %I.%I %s', c.relkind, n.nspname, c.relname, c.relforcerowsecurity) \
         FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
         WHERE n.nspname !~ '^pg_(toast|temp)' AND n.nspname <> ALL ($1) ORDER BY 1",
    )
    .bind(ours)
    .fetch_all(&mut admin)
    .await
    .expect("relations");
    let notes = sqlx::query_as("SELECT tenant_id, body FROM notes ORDER BY id")
        .fetch_all(&mut admin)
        .await
        .expect("the table is there");
    let settings = sqlx::query_scalar(
        "SELECT format('%s %s %s', setdatabase, setrole, setconfig) FROM pg_db_role_setting \
         WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()) \
         ORDER BY 1",
    )
    .fetch_all(&mut admin)
    .await
    .expect("settings");
    let superusers =
        sqlx::query_scalar("SELECT rolname::text FROM pg_roles WHERE rolsuper ORDER BY 1")
            .fetch_all(&mut admin)
            .await
            .expect("roles");
    admin.close().await.expect("closed");
    Picture {
        relations,
        notes,
        settings,
        superusers,
    }
}
