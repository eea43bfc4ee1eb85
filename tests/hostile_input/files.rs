//! Files of tenants.

use std::collections::BTreeSet;

use tenantry::sqlite::SqliteRegistry;
use tenantry::{ErrorKind, TenantContext, TenantId};

use crate::corpus::{self, shown};

#[path = "../support/folder.rs"]
mod folder;

#[tokio::test]
async fn files_stay_in_their_folder_and_apart() {
    let around = folder::Folder::new();
    let inside = around.path().join("tenants");
    std::fs::create_dir(&inside).expect("a folder");
    let registry = SqliteRegistry::open(&inside)
        .max_pools(4)
        .migrate(|tx| {
            Box::pin(async move {
                sqlx::raw_sql("CREATE TABLE IF NOT EXISTS notes (body TEXT)")
                    .execute(tx)
                    .await?;
                Ok(())
            })
        })
        .build()
        .await
        .expect("a registry");
    let mut ids = BTreeSet::new();
    for text in corpus::texts() {
        // A context of a user, on its way to a file: kept or refused, and no part of a name.
        let Ok(id) = text.parse::<TenantId>() else {
            continue;
        };
        assert!(
            registry.create(&id).await.expect("created"),
            "{}",
            shown(&text)
        );
        ids.insert(id);
    }
    for id in &ids {
        let scope = registry.scope(id.clone()).await.expect("a scope");
        sqlx::query("INSERT INTO notes VALUES (?)")
            .bind(id.as_str())
            .execute(&scope)
            .await
            .expect("kept");
    }
    for id in &ids {
        let scope = registry.scope(id.clone()).await.expect("a scope");
        let notes: Vec<String> = sqlx::query_scalar("SELECT body FROM notes")
            .fetch_all(&scope)
            .await
            .expect("rows");
        assert_eq!(notes, [id.as_str()]);
    }
    let listed = registry.tenants().await.expect("a list");
    assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), ids);
    registry.close();

    let beside: Vec<_> = std::fs::read_dir(around.path())
        .expect("readable")
        .collect();
    assert_eq!(beside.len(), 1, "{beside:?}");
    for entry in std::fs::read_dir(&inside).expect("readable") {
        let entry = entry.expect("an entry");
        assert!(entry.file_type().expect("a type").is_file(), "{entry:?}");
    }
}

#[tokio::test]
async fn user_of_a_file_is_kept_or_refused() {
    let folder = folder::Folder::new();
    let registry = SqliteRegistry::open(folder.path()).build().await;
    let registry = registry.expect("a registry");
    let a: TenantId = "a".parse().expect("an id");
    registry.create(&a).await.expect("created");
    for text in corpus::texts() {
        let context = TenantContext::new(a.clone()).user(&text);
        match registry.scope(context).await {
            Ok(scope) => {
                assert_eq!(scope.context().user_id(), Some(&*text));
                let bound: String = sqlx::query_scalar("SELECT ?")
                    .bind(&text)
                    .fetch_one(&scope)
                    .await
                    .expect("a value");
                assert_eq!(bound, text, "{}", shown(&text));
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::InvalidContext);
                assert!(text.is_empty() || text.len() > 255 || text.contains('\0'));
            }
        }
    }
}
