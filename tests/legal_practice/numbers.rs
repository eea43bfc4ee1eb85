//! Invoice numbers under load.

use std::collections::BTreeSet;

use crate::load::Load;
use crate::world::World;

pub async fn invoices_are_numbered_without_a_gap(world: &World) {
    let long = std::env::var_os("TENANTRY_LONG").is_some();
    let mut partner = world.user("partner", "axo").await;
    let case = crate::routes::open_case(&mut partner, "Numbered").await.id;
    let load = Load {
        address: world.address,
        path: "/invoices",
        token: partner.token.clone().expect("a token"),
        case,
        clients: 200,
        requests: if long { 20_000 } else { 1_000 },
    };
    let tally = load.drive().await;
    println!("200 clients, {} requests: {tally}", load.requests);

    assert_eq!(tally.unwanted(), 0, "{tally}");
    let expected = load.requests * 9 / 10;
    assert_eq!(tally.answers.get("201"), Some(&expected), "{tally}");
    assert_eq!(
        tally.answers.get("422 no-such-case"),
        Some(&(load.requests - expected)),
        "none failed after its number was taken"
    );
    let given: BTreeSet<&str> = tally.numbers.iter().map(|number| &**number).collect();
    let contiguous: Vec<String> = (1..=expected)
        .map(|number| format!("INV-AXO-{number:05}"))
        .collect();
    assert!(
        given.into_iter().eq(contiguous.iter()),
        "a gap or a duplicate"
    );
    // What clients were told is what is there.
    let mut owner = world.owner().await;
    let kept: Vec<String> = sqlx::query_scalar(
        "SELECT number FROM invoices WHERE tenant_id = 'axo' ORDER BY number COLLATE \"C\"",
    )
    .fetch_all(&mut owner)
    .await
    .expect("numbers");
    assert_eq!(kept, contiguous);
}
