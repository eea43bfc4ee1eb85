//! A specimen above the database: everything is scoped there, and a cache in front of it is keyed
//! by what was asked for, and not by who asked.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tenantry::testing::leak_hunt::{FindingKind, Subject, Turn, subject};
use tenantry::{Error, TenantId, TenantRegistry};

use crate::stage::{self, Stage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn specimen_cache() {
    let stage = Stage::new().await;
    let registry = stage.registry().await;
    stage.finds_nothing(cache(&registry, Key::OfTenant)).await;
    stage
        .finds(FindingKind::ForeignRow, cache(&registry, Key::OfNobody))
        .await;
}

#[derive(Clone, Copy)]
enum Key {
    OfTenant,
    OfNobody,
}

type Rows = HashMap<(Option<TenantId>, &'static str), Vec<String>>;

fn cache(registry: &TenantRegistry, key: Key) -> impl Subject {
    let (registry, rows) = (registry.clone(), Arc::new(Mutex::new(Rows::new())));
    subject(move |turn: Turn| {
        let (registry, rows) = (registry.clone(), Arc::clone(&rows));
        async move {
            let scope = registry.scope(turn.tenant().clone()).await?;
            let key = match key {
                Key::OfTenant => (Some(turn.tenant().clone()), "all notes"),
                Key::OfNobody => (None, "all notes"),
            };
            if turn.operation() == "write" {
                stage::statement(&turn, &scope).await?;
                rows.lock().remove(&key);
                return Ok::<_, Error>(());
            }
            let cached = rows.lock().get(&key).cloned();
            let all = match cached {
                Some(all) => all,
                None => sqlx::query_scalar(stage::READ).fetch_all(&scope).await?,
            };
            turn.saw_all(&all);
            rows.lock().insert(key, all);
            Ok(())
        }
    })
}
