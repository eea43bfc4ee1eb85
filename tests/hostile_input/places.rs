//! Where tenants live: names of databases, schemas and servers.

use std::time::Duration;

use sqlx::Connection as _;
use sqlx::postgres::PgConnectOptions;
use tenantry::sql::{Installation, TenantType};
use tenantry::{
    ConnectionBudget, Database, Error, ErrorKind, LazyPools, Placement, PoolOptions,
    PostgresDirectory, StaticDirectory, TenantDirectory, TenantId, TenantRecord, TenantRegistry,
};

use crate::corpus::{self, is_name, shown};
use crate::names::by_server;
use crate::support::control::{Control, soon};
use crate::support::{scope, tenant, world};
use crate::untouched::picture;

const WHERE: &str = "SELECT current_database()::text, current_user::text, \
                     current_schema()::text, current_setting('app.tenant_id')";

type Where = (String, String, Option<String>, String);

async fn lazy(directory: impl TenantDirectory) -> TenantRegistry {
    TenantRegistry::builder(directory)
        .lazy(LazyPools::default().max_pools(4))
        .pool_options(|_, options: PoolOptions| {
            let options = options.max_connections(1);
            options.acquire_timeout(Duration::from_secs(20))
        })
        .build()
        .await
        .expect("a registry")
}

async fn whereabouts(registry: &TenantRegistry, id: &str) -> Result<Where, Error> {
    let scope = registry.scope(tenant(id)).await?;
    let mut tx = scope.begin().await?;
    let place = sqlx::query_as(WHERE).fetch_one(&mut tx).await?;
    tx.commit().await?;
    Ok(place)
}

/// Databases cost more than anything else here: some of the names, of each kind.
const DATABASES: &[&str] = &[
    " ",
    "\n",
    "'; DROP TABLE notes; --",
    "\"; DROP TABLE notes; --",
    "\\",
    "%",
    "$1",
    "{}",
    "a=b user=postgres",
    "postgres://other/db",
    "dbname='x' user=postgres",
    "\u{feff}",
    "\u{202e}b",
    "\u{430}cme",
];

#[tokio::test]
async fn database_of_any_name_is_that_one_or_refused() {
    let world = world(&["a", "b"]).await;
    let before = picture(&world, &[]).await;
    let mut admin = world.admin().await;
    let mark = world.admin.get_database().expect("named").to_owned();
    for name in DATABASES {
        let name = format!("{name}{}", &mark[mark.len() - 12..]);
        by_server(&mut admin, "CREATE DATABASE %I", &name).await;
        let there = world.admin.clone().database(&name);
        let mut owner = sqlx::PgConnection::connect_with(&there)
            .await
            .expect("there");
        Installation::new("app")
            .tenant_column("tenant_id", TenantType::Text)
            .database_of(tenant("own"))
            .install(&mut owner)
            .await
            .expect("installed");
        owner.close().await.expect("closed");
        let database = Database::new(world.app.clone());
        let directory = StaticDirectory::new().databases(database, [(tenant("own"), &*name)]);
        let registry = lazy(directory).await;
        let place = whereabouts(&registry, "own").await.expect("served");
        assert_eq!((&*place.0, &*place.1, &*place.3), (&*name, "app", "own"));
        registry.shutdown(Duration::from_secs(20)).await;
        by_server(&mut admin, "DROP DATABASE %I WITH (FORCE)", &name).await;
    }
    // All others are no database, and none of them is another one or brings another role.
    let mut texts = corpus::texts();
    texts.retain(|text| text != "app");
    for text in texts {
        for database in [
            Database::new(world.app.clone()).named(&*text),
            Database::new(world.app.clone().database(&text)),
            Database::new(world.app.clone().username(&text)),
        ] {
            for record in [
                Placement::Shared {
                    database: database.clone(),
                },
                Placement::Database { database },
            ] {
                let directory = StaticDirectory::new();
                directory.put(tenant("own"), TenantRecord::new(record));
                let registry = lazy(directory).await;
                let error = match whereabouts(&registry, "own").await {
                    Err(error) => error,
                    Ok(_) => panic!("served: {}", shown(&text)),
                };
                let expected = match is_name(&text) {
                    true => vec![
                        ErrorKind::Connect,
                        ErrorKind::Installation,
                        ErrorKind::Preflight,
                    ],
                    false => vec![ErrorKind::InvalidOption],
                };
                assert!(
                    expected.contains(&error.kind()),
                    "{}: {error:?}",
                    shown(&text)
                );
            }
        }
    }
    assert_eq!(picture(&world, &[]).await, before);
}

#[tokio::test]
async fn schema_of_any_name_comes_first_in_the_path_or_is_refused() {
    let world = world(&["a", "b"]).await;
    let before = picture(&world, &[]).await;
    let mut admin = world.admin().await;
    let directory = StaticDirectory::new();
    let registry = lazy(directory.clone()).await;
    for text in corpus::texts() {
        let is_reserved = text.starts_with("pg_") || text == "public";
        let exists = is_name(&text) && !is_reserved;
        if exists {
            let create = "CREATE SCHEMA %I; GRANT USAGE ON SCHEMA %I TO app";
            by_server(&mut admin, create, &text).await;
        }
        let record = TenantRecord::new(Placement::Schema {
            database: Database::new(world.app.clone()),
            schema: (&*text).into(),
        });
        directory.put(tenant("s"), record);
        soon(async {
            loop {
                match whereabouts(&registry, "s").await {
                    Ok(place) => {
                        // What the registry had heard before, until it hears of the change.
                        if exists && place.2.as_deref() == Some(&*text) {
                            break;
                        }
                        if is_reserved {
                            break;
                        }
                    }
                    Err(error) => {
                        // There are no temporary tables, and so no schema of them; and the
                        // registry may still have that from the one before.
                        if error.kind() == ErrorKind::Database {
                            if text == "pg_temp" {
                                break;
                            }
                            continue;
                        }
                        assert_eq!(error.kind(), ErrorKind::InvalidOption, "{}", shown(&text));
                        if !is_name(&text) {
                            break;
                        }
                    }
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
        if exists {
            by_server(&mut admin, "DROP SCHEMA %I", &text).await;
        }
    }
    assert_eq!(picture(&world, &[]).await, before);
}

/// A control database whose table has lost its checks, as somebody may have altered it.
#[tokio::test]
async fn rows_of_any_kind_name_their_own_place_or_none() {
    let world = world(&["a", "b"]).await;
    let before = picture(&world, &[]).await;
    let mut control = Control::start().await;
    control
        .run(
            "DO $$ DECLARE c record; BEGIN FOR c IN SELECT conname FROM pg_constraint \
               WHERE conrelid = 'tenantry.tenants'::regclass AND contype = 'c' LOOP \
               EXECUTE format('ALTER TABLE tenantry.tenants DROP CONSTRAINT %I', c.conname); \
             END LOOP; END $$",
        )
        .await;
    let name = world.admin.get_database().expect("named").to_owned();
    let mut texts = corpus::texts();
    texts.retain(|text| !text.contains('\0'));
    let insert = |column: &'static str, text: String| {
        let id = format!("{column}-{:x}", fastrand::u64(..));
        let mut row = [
            ("id", id.clone()),
            ("placement", "schema".to_owned()),
            ("server", "main".to_owned()),
            ("database", name.clone()),
            ("schema", "public".to_owned()),
            ("state", "active".to_owned()),
        ];
        let place = row.iter_mut().find(|(name, _)| *name == column);
        place.expect("a column").1 = text;
        row.map(|(_, value)| value)
    };
    let mut rows = Vec::new();
    for text in &texts {
        // A text of a megabyte is no key of an index.
        if text.len() < 2_000 && text.parse::<TenantId>().is_err() {
            rows.push(insert("id", text.clone()));
        }
        for column in ["placement", "server", "database", "schema", "state"] {
            rows.push(insert(column, text.clone()));
        }
    }
    for row in &rows {
        let mut query = sqlx::query(
            "INSERT INTO tenantry.tenants (id, placement, server, database, schema, state) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        );
        for value in row {
            query = query.bind(value);
        }
        query.execute(&mut control.admin).await.expect("a row");
    }
    let directory = PostgresDirectory::builder(control.reader.clone())
        .server("main", world.app.clone())
        .connect()
        .await
        .expect("a directory");
    let listed = directory.list(None, 100_000).await.expect("a list");
    for row in &rows {
        let Ok(id) = row[0].parse::<TenantId>() else {
            assert!(listed.iter().all(|id| id.as_str() != row[0]));
            continue;
        };
        let Ok(found) = directory.find(&id).await else {
            continue;
        };
        // Whatever is found says what the row says, letter for letter.
        let record = found.expect("a row");
        let Placement::Schema { database, schema } = record.placement() else {
            panic!("{}", shown(&row[1]));
        };
        assert_eq!(
            (&row[1][..], &row[2][..], &row[5][..]),
            ("schema", "main", "active")
        );
        assert_eq!((database.name(), &**schema), (&*row[3], &*row[4]));
        assert!(is_name(&row[3]) && is_name(&row[4]));
    }
    // Those beside the odd rows are served all the same.
    let sound = format!(
        "INSERT INTO tenantry.tenants (id, placement, server, database) \
         VALUES ('a', 'shared', 'main', '{name}')"
    );
    control.run(&sound).await;
    let registry = lazy(directory).await;
    soon(async {
        while whereabouts(&registry, "a").await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(picture(&world, &[]).await, before);
}

#[tokio::test]
async fn server_of_any_name_is_only_looked_up() {
    let mut control = Control::start().await;
    for text in corpus::texts() {
        let options = PgConnectOptions::new_without_pgpass().username("app");
        let builder = control.builder().server(&*text, options);
        // Refused, or a name like any other.
        if let Ok(directory) = builder.connect().await {
            assert!(
                directory
                    .find(&tenant("nobody"))
                    .await
                    .expect("asked")
                    .is_none()
            );
        }
    }
    control.run("SELECT 1").await;
}

#[tokio::test]
async fn control_database_of_a_budget_is_that_name_or_refused() {
    let world = world(&["a"]).await;
    let before = picture(&world, &[]).await;
    for text in corpus::texts() {
        let directory = StaticDirectory::new().shared_by_all(world.app.clone());
        let built = TenantRegistry::builder(directory)
            .budget(ConnectionBudget::per_server(5).control_database(&*text))
            .pool_options(|_, options| options.max_connections(1))
            .build()
            .await;
        match built {
            // `postgres` is one.
            Ok(registry) => {
                assert_eq!(text, "postgres", "{}", shown(&text));
                let _ = scope(&registry, "a").await;
            }
            Err(error) => {
                let kinds = [ErrorKind::Connect, ErrorKind::InvalidOption];
                assert!(kinds.contains(&error.kind()), "{}: {error:?}", shown(&text));
            }
        }
    }
    assert_eq!(picture(&world, &[]).await, before);
}
