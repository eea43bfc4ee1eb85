//! Side by side with pgrls, a linter of policies that somebody else wrote.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;

use serde_json::Value;
use sqlx::{ConnectOptions as _, Executor as _};
use tenantry::audit::{Auditor, Severity};
use tenantry::sql::{Installation, TenantType};
use tokio::process::Command;

use crate::HOLES;
use crate::corpus::{Bench, SOUND, Specimen};
use crate::folder::Folder;
use crate::support::world_with;

/// That `countries` is everybody's it has to be told, as our auditor has.
const CONFIGURATION: &str = "[lint.rules.SEC001]\nallowlist = [\"public.countries\"]\n";

/// What pgrls says of a database.
async fn pgrls(arguments: &[&str], url: &str) -> Value {
    let program = std::env::var("TENANTRY_PGRLS").unwrap_or_else(|_| "pgrls".to_owned());
    let folder = Folder::new();
    std::fs::write(folder.path().join("pgrls.toml"), CONFIGURATION).expect("written");
    // What follows is sqlx's own.
    let url = url.split('?').next().expect("one part");
    let output = Command::new(program)
        .args(arguments)
        .args(["--format", "json", "--database-url", url])
        .current_dir(folder.path())
        .output()
        .await;
    let Output { stdout, stderr, .. } =
        output.expect("these tests need pgrls: run ./scripts/test, or set TENANTRY_PGRLS");
    let said = String::from_utf8_lossy(&stderr);
    serde_json::from_slice(&stdout).unwrap_or_else(|_| panic!("pgrls {arguments:?}: {said}"))
}

/// What is at least a warning, with its object.
async fn lint(url: &str, schemas: &str) -> BTreeSet<(String, String)> {
    let said = pgrls(&["lint", "--schemas", schemas], url).await;
    let violations = said["violations"].as_array().expect("a list").iter();
    violations
        .filter(|one| one["severity"] != "info")
        .map(|one| (text(&one["rule_id"]), text(&one["location"])))
        .collect()
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

/// The policies that we write have nothing that another linter finds.
#[tokio::test]
async fn pgrls_finds_nothing_above_info_in_what_this_crate_makes() {
    for kind in [TenantType::Text, TenantType::Uuid, TenantType::BigInt] {
        let installation = Installation::new("app").tenant_column("tenant_id", kind);
        let world = world_with(installation.clone(), &[]).await;
        let mut admin = world.admin().await;
        let countries = "DROP TABLE plain; CREATE TABLE countries (code text PRIMARY KEY)";
        admin.execute(countries).await.expect("a table");
        let countries = installation.reference_table("countries");
        countries.apply(&mut admin).await.expect("applied");
        let url = world.admin.to_url_lossy().to_string();
        let found = lint(&url, "public").await;
        assert!(found.is_empty(), "{kind:?}: {found:?}");
        // That it looks at all.
        admin
            .execute("ALTER TABLE notes DISABLE ROW LEVEL SECURITY")
            .await
            .expect("a hole");
        assert!(!lint(&url, "public").await.is_empty(), "{kind:?}");
    }
}

/// The linter, and the prover in each of the modes that there is something to prove in.
async fn all_of_pgrls(specimen: &Specimen<'_>) -> BTreeSet<(String, String)> {
    let url = specimen.url();
    let mut found = lint(&url, "app,public").await;
    for mode in ["cross-tenant", "write", "escalation", "reachability"] {
        let arguments = ["verify", "--mode", mode, "--schemas", "app,public"];
        let helper = ["--auth-function", "app.current_tenant"];
        let said = pgrls(&[&arguments[..], &helper].concat(), &url).await;
        let tables = said["tables"].as_array().expect("a list").iter();
        let leaks = tables.filter(|table| table["verdict"] == "leak");
        found.extend(leaks.map(|table| (format!("verify {mode}"), text(&table["table"]))));
    }
    found
}

async fn ours(specimen: &Specimen<'_>) -> BTreeSet<(String, String)> {
    let report = Auditor::new(specimen.config())
        .run(specimen.pool())
        .await
        .expect("audited");
    let findings = report
        .findings()
        .filter(|finding| finding.severity() > Severity::Info);
    findings
        .map(|finding| (finding.rule().id().to_owned(), finding.object().to_owned()))
        .collect()
}

/// What is said more than of the sound database.
fn more(found: &BTreeSet<(String, String)>, base: &BTreeSet<(String, String)>) -> String {
    let mut rules: Vec<_> = found
        .difference(base)
        .map(|(rule, _)| rule.as_str())
        .collect();
    rules.dedup();
    match rules.is_empty() {
        true => "–".to_owned(),
        false => rules.join(", "),
    }
}

/// Takes minutes: with `TENANTRY_LONG`. `UPDATE_SNAPSHOTS=1` writes the tables anew.
#[tokio::test]
async fn the_comparison_is_as_documented() {
    if std::env::var_os("TENANTRY_LONG").is_none() {
        return;
    }
    let bench = Bench::new().await;
    let base = bench.specimen("base").await.expect("the base");
    let (our_base, their_base) = (ours(&base).await, all_of_pgrls(&base).await);
    base.drop().await;
    let mut tables = String::new();
    let mut counts = [[0; 2]; 2];
    for (title, ids) in [
        (
            "## Holes",
            HOLES.iter().map(|hole| hole.0).collect::<Vec<_>>(),
        ),
        ("## Sound designs", SOUND.to_vec()),
    ] {
        let is_sound = title != "## Holes";
        tables += &format!("{title}\n\n| | tenantry | pgrls |\n|---|---|---|\n");
        for id in ids {
            let Some(specimen) = bench.specimen(id).await else {
                continue;
            };
            let ours = more(&ours(&specimen).await, &our_base);
            let theirs = more(&all_of_pgrls(&specimen).await, &their_base);
            specimen.drop().await;
            counts[usize::from(is_sound)][0] += usize::from(ours != "–");
            counts[usize::from(is_sound)][1] += usize::from(theirs != "–");
            tables += &format!("| {id} | {ours} | {theirs} |\n");
        }
        tables.push('\n');
    }
    let [holes, sound] = counts;
    let summary = format!(
        "| | tenantry | pgrls 0.57.1 |\n|---|---|---|\n\
         | holes found, of {} | {} | {} |\n| false alarms on sound designs, of {} | {} | {} |\n\
         | findings above info on the sound database itself | {} | {} |\n\n",
        HOLES.len(),
        holes[0],
        holes[1],
        SOUND.len(),
        sound[0],
        sound[1],
        our_base.len(),
        their_base.len(),
    );
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/audit/comparison.md");
    let text = std::fs::read_to_string(&path).expect("the comparison");
    let (before, found) = text.split_at(text.find("| | tenantry |").expect("the tables"));
    let now = format!("{summary}{tables}");
    let now = now.trim_end().to_owned() + "\n";
    if found != now && std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, format!("{before}{now}")).expect("written");
        return;
    }
    assert_eq!(found, now, "run this with UPDATE_SNAPSHOTS=1");
}
