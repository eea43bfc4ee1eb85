//! What is written down for a tenant: members and roles, numbers, the trail, the record of dangerous
//! access; and what a list is asked with.

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tenantry::repository::{Cursor, PageRequest, Pager};
use tenantry::sql::{DangerousAccess, Installation, TenantType};
use tenantry::{
    Authorizer, Decision, Error, ErrorKind, NumberSeries, Permission, PermissionPattern, RoleAdmin,
    StaticDirectory, TenantContext, TenantRegistry, TenantScope, Trail, TrailEntry, TrailHead,
    TrailQuery, UniqueSeries,
};

use crate::corpus::{self, shown};
use crate::support::{World, scope, tenant, world_with};
use crate::untouched::picture;

async fn stage() -> (World, TenantRegistry, PgConnection) {
    let installation = Installation::new("app").tenant_column("tenant_id", TenantType::Text);
    let world = world_with(installation.clone(), &["a", "b"]).await;
    let mut admin = world.admin().await;
    let authorization = installation.authorization();
    authorization.apply(&mut admin).await.expect("applied");
    let numbers = installation.number_series();
    numbers.apply(&mut admin).await.expect("applied");
    let trail = installation.trail();
    trail.apply(&mut admin).await.expect("applied");
    let registry = world.registry().await;
    (world, registry, admin)
}

fn has_nul(text: &str) -> bool {
    text.contains('\0')
}

/// Everything that names a member or a role, in one transaction.
async fn enrol(a: &TenantScope, text: &str) -> Result<(), Error> {
    let all: PermissionPattern = "invoices:*".parse()?;
    let one: PermissionPattern = "invoices:delete".parse()?;
    let mut tx = a.begin().await?;
    let mut roles = RoleAdmin::new(&mut tx);
    roles.add_member(text).await?;
    roles.create(text).await?;
    roles.create("parent of odd ones").await?;
    roles.grant(text, &all).await?;
    roles.deny(text, &one).await?;
    roles.inherit(text, "parent of odd ones").await?;
    roles.assign(text, text).await?;
    Ok(tx.commit().await?)
}

async fn dismiss(a: &TenantScope, text: &str) {
    let all: PermissionPattern = "invoices:*".parse().expect("a pattern");
    let mut tx = a.begin().await.expect("begun");
    let mut roles = RoleAdmin::new(&mut tx);
    assert!(roles.withdraw(text, &all).await.expect("withdrawn"));
    assert!(roles.revoke(text, text).await.expect("revoked"));
    assert!(
        roles
            .disinherit(text, "parent of odd ones")
            .await
            .expect("done")
    );
    assert!(roles.remove(text).await.expect("removed"));
    assert!(roles.remove_member(text).await.expect("removed"));
    tx.commit().await.expect("committed");
}

#[tokio::test]
async fn member_or_role_is_kept_as_it_is_or_refused() {
    let (world, registry, mut admin) = stage().await;
    let before = picture(&world, &[]).await;
    let a = scope(&registry, "a").await;
    let authorizer = Authorizer::builder().build().await.expect("an authorizer");
    let create: Permission = "invoices:create".parse().expect("a permission");
    let delete: Permission = "invoices:delete".parse().expect("a permission");
    for text in corpus::texts() {
        let fits = (1..=255).contains(&text.len()) && !has_nul(&text);
        let done = enrol(&a, &text).await;
        assert_eq!(done.is_ok(), fits, "{}: {done:?}", shown(&text));
        let kept: Vec<(String, String, String)> =
            sqlx::query_as("SELECT tenant_id, user_id, role FROM tenantry.member_roles")
                .fetch_all(&mut admin)
                .await
                .expect("rows");
        if let Err(error) = done {
            assert_eq!(error.kind(), ErrorKind::Database, "{}", shown(&text));
            assert_eq!(kept, []);
            continue;
        }
        assert_eq!(kept, [("a".to_owned(), text.clone(), text.clone())]);
        // The decision is that user's, and nobody's who looks like it.
        let scope_of = async |user: &str| {
            let context = TenantContext::new(tenant("a")).user(user);
            registry.scope(context).await.expect("a scope")
        };
        let own = scope_of(&text).await;
        assert!(
            authorizer.check(&own, &create).await.is_granted(),
            "{}",
            shown(&text)
        );
        assert_eq!(authorizer.check(&own, &delete).await, Decision::Denied);
        let other = scope_of("somebody else").await;
        assert!(!authorizer.check(&other, &create).await.is_granted());
        dismiss(&a, &text).await;
    }
    assert_eq!(picture(&world, &[]).await, before);
}

#[test]
fn permission_is_two_plain_words() {
    let is_part = |part: &str| {
        (1..=63).contains(&part.len())
            && part.as_bytes()[0].is_ascii_alphanumeric()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    for text in corpus::texts() {
        let pair = text.split_once(':');
        let plain = pair.is_some_and(|(resource, action)| is_part(resource) && is_part(action));
        assert_eq!(
            text.parse::<Permission>().is_ok(),
            plain,
            "{}",
            shown(&text)
        );
        for both in [format!("{text}:read"), format!("invoices:{text}")] {
            let parsed = both.parse::<Permission>();
            assert_eq!(parsed.is_ok(), is_part(&text), "{}", shown(&text));
            assert_eq!(
                both.parse::<PermissionPattern>().is_ok(),
                is_part(&text) || text == "*",
                "{}",
                shown(&text)
            );
            if let Ok(parsed) = parsed {
                assert_eq!(parsed.to_string(), both);
            }
        }
    }
}

#[tokio::test]
async fn series_is_plain_and_a_reason_is_kept() {
    let (world, registry, mut admin) = stage().await;
    let before = picture(&world, &[]).await;
    let a = scope(&registry, "a").await;
    let is_name = |text: &str| text.parse::<tenantry::TenantId>().is_ok();
    for text in corpus::texts() {
        // By the same rule as an id.
        for (series, fits) in [
            (NumberSeries::new(&*text), is_name(&text)),
            (NumberSeries::new("n").prefix(&*text), is_prefix(&text)),
        ] {
            let mut tx = a.begin().await.expect("begun");
            let taken = series.next(&mut tx).await;
            assert_eq!(taken.is_ok(), fits, "{series:?}: {taken:?}");
            match taken {
                Ok(number) => {
                    let read = series.parse(number.as_str()).expect("its own");
                    assert_eq!(read, number);
                    tx.commit().await.expect("committed");
                }
                Err(error) => {
                    let kinds = [ErrorKind::InvalidOption, ErrorKind::Database];
                    assert!(kinds.contains(&error.kind()), "{error:?}");
                    tx.rollback().await.expect("rolled back");
                }
            }
        }
        // What is a zone the server knows, and `x' OR '1'='1` is one to it.
        let zoned = NumberSeries::new("z").monthly().time_zone(&*text);
        let mut tx = a.begin().await.expect("begun");
        match zoned.next(&mut tx).await {
            Ok(number) => assert!(number.period().is_some_and(|period| period.len() == 7)),
            Err(error) => assert!(
                matches!(error.kind(), ErrorKind::InvalidOption | ErrorKind::Database),
                "{error:?}"
            ),
        }
        tx.rollback().await.expect("rolled back");
        let unique = UniqueSeries::new(&*text).next(&a).await;
        assert_eq!(unique.is_ok(), is_name(&text), "{}", shown(&text));
        let _ = NumberSeries::new("n").prefix("P").monthly().parse(&text);

        let series = NumberSeries::new("void");
        let mut tx = a.begin().await.expect("begun");
        let number = series.next(&mut tx).await.expect("a number");
        match series.void(&mut tx, &number, &text).await {
            Ok(()) => tx.commit().await.expect("committed"),
            Err(error) => {
                let kinds = [ErrorKind::InvalidOption, ErrorKind::Database];
                assert!(kinds.contains(&error.kind()), "{error:?}");
                tx.rollback().await.expect("rolled back");
                continue;
            }
        }
        let reason: String =
            sqlx::query_scalar("DELETE FROM tenantry.void_numbers RETURNING reason")
                .fetch_one(&mut admin)
                .await
                .expect("one row");
        assert!(reason == text, "{}", shown(&text));
    }
    assert_eq!(picture(&world, &[]).await, before);
}

fn is_prefix(text: &str) -> bool {
    let plain = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    text.len() <= 32
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte))
        && plain(text.as_bytes().first())
        && plain(text.as_bytes().last())
}

#[tokio::test]
async fn entry_of_the_trail_is_kept_as_it_is_or_refused() {
    let (world, registry, _admin) = stage().await;
    let before = picture(&world, &[]).await;
    let a = scope(&registry, "a").await;
    let mut entries = 0;
    for text in corpus::texts() {
        let value = json!({ "key": text, text.clone(): [text.clone()] });
        for (entry, fits) in [
            (
                TrailEntry::new(&*text),
                (1..=200).contains(&text.len()) && !has_nul(&text),
            ),
            (
                TrailEntry::new("do").object(&*text, "1"),
                text.len() <= 200 && !has_nul(&text),
            ),
            (
                TrailEntry::new("do").object("text", &text),
                text.len() <= 1_000 && !has_nul(&text),
            ),
            (TrailEntry::new("do").before(value.clone()), !has_nul(&text)),
            (TrailEntry::new("do").after(value.clone()), !has_nul(&text)),
        ] {
            let mut tx = a.begin().await.expect("begun");
            let recorded = Trail::record(&mut tx, &entry).await;
            let done = match recorded {
                Ok(()) => tx.commit().await.map_err(Error::from),
                Err(error) => Err(error),
            };
            assert_eq!(done.is_ok(), fits, "{}: {done:?}", shown(&text));
            entries += i64::from(fits);
        }
        if has_nul(&text) {
            continue;
        }
        for (kind, id, fits) in [
            (&*text, "1", text.len() <= 200),
            ("text", &*text, text.len() <= 1_000),
        ] {
            let of_it = TrailQuery::new().object(kind, id).limit(10);
            let page = Trail::page((&a).into(), &of_it).await.expect("a page");
            assert_eq!(page.is_empty(), !fits, "{}", shown(&text));
            for record in &page {
                assert_eq!(record.object(), Some((kind, id)), "{}", shown(&text));
            }
        }
        let page = TrailQuery::new().limit(2);
        let page = Trail::page((&a).into(), &page).await.expect("a page");
        assert!(page[0].after() == Some(&value), "{}", shown(&text));
        assert!(page[1].before() == Some(&value), "{}", shown(&text));
        let _ = text.parse::<TrailHead>().map(|head| head.number());
    }
    let report = Trail::verify((&a).into()).await.expect("verified");
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(report.entries(), entries);
    assert_eq!(picture(&world, &[]).await, before);
}

#[tokio::test]
async fn who_and_why_is_on_record_as_it_is_or_refused() {
    let (world, _, mut admin) = stage().await;
    let role = format!("danger_{}", world.admin.get_database().expect("named"));
    let create = format!("CREATE ROLE {role} LOGIN BYPASSRLS IN ROLE app");
    let created = admin.execute(AssertSqlSafe(create));
    created.await.expect("a role");
    let access = DangerousAccess::new(&*role);
    access.install(&mut admin).await.expect("installed");
    let before = picture(&world, &[]).await;
    let directory = StaticDirectory::new().shared_by_all(world.app.clone());
    let registry = TenantRegistry::builder(directory)
        .dangerous(world.app.clone().username(&role))
        .build()
        .await
        .expect("a registry");
    let dangerous = registry.dangerous().expect("configured");
    let fits = |text: &str, most| !text.trim().is_empty() && text.len() <= most && !has_nul(text);
    let mut expected = Vec::new();
    for text in corpus::texts() {
        // Both at once, but for what is too long for the one alone.
        let actor = if text.len() > 255 { "sam" } else { &*text };
        for (actor, reason) in [(actor, &*text), (&*text, "because")] {
            if expected.last().is_some_and(|(_, last, _)| last == actor) && reason == "because" {
                continue;
            }
            let begun = dangerous.begin(actor, reason).await;
            let allowed = fits(actor, 255) && fits(reason, 2_000);
            assert_eq!(begun.is_ok(), allowed, "{}: {begun:?}", shown(&text));
            match begun {
                Ok(tx) => {
                    tx.commit().await.expect("committed");
                    expected.push((role.clone(), actor.to_owned(), reason.to_owned()));
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidOption),
            }
        }
    }
    let kept: Vec<(String, String, String)> =
        sqlx::query_as("SELECT role, actor, reason FROM tenantry.dangerous_access ORDER BY id")
            .fetch_all(&mut admin)
            .await
            .expect("rows");
    assert!(kept == expected);
    admin.close().await.expect("closed");
    assert_eq!(picture(&world, &[]).await, before);
}

#[tokio::test]
async fn lock_of_any_name_is_that_tenants() {
    let (world, registry, _admin) = stage().await;
    let before = picture(&world, &[]).await;
    let two = world
        .registry_with(|options| options.max_connections(2))
        .await;
    let (a, b) = (scope(&two, "a").await, scope(&two, "b").await);
    for text in corpus::texts() {
        let mut of_a = a.begin().await.expect("begun");
        if let Err(error) = of_a.advisory_lock(&text).await {
            assert!(has_nul(&text), "{}: {error:?}", shown(&text));
            continue;
        }
        let mut of_b = b.begin().await.expect("begun");
        assert!(
            of_b.try_advisory_lock(&text).await.expect("asked"),
            "{}",
            shown(&text)
        );
    }
    drop(registry);
    assert_eq!(picture(&world, &[]).await, before);
}

#[test]
fn cursor_or_order_is_one_of_ours_or_refused() {
    let context = TenantContext::new(tenant("a"));
    for text in corpus::texts() {
        if let Ok(cursor) = text.parse::<Cursor>() {
            let request = PageRequest::default().after(cursor);
            let pager = Pager::<String>::new(&context, "list", &request);
            let kind = pager.map(drop).map_err(|error| error.kind());
            assert_eq!(kind, Err(ErrorKind::InvalidCursor), "{}", shown(&text));
        }
        let request = PageRequest::default().order(&*text);
        match request.order_among(&["name", "date"]) {
            Ok(order) => assert_eq!(order, text),
            Err(error) => assert_eq!(error.kind(), ErrorKind::UnknownOrder),
        }
        // A place of any text, on its way out and in.
        let request = PageRequest::default().limit(1);
        let pager = Pager::<String>::new(&context, &*text, &request).expect("no cursor");
        let Ok(page) = pager.page(vec![(), ()], |()| text.clone()) else {
            assert!(text.len() > 200, "{}", shown(&text));
            continue;
        };
        let cursor: Cursor = page
            .next
            .expect("there is more")
            .to_string()
            .parse()
            .expect("its own");
        let again = Pager::<String>::new(&context, &*text, &request.after(cursor));
        assert!(
            again.expect("its own").after() == Some(&text),
            "{}",
            shown(&text)
        );
    }
}
