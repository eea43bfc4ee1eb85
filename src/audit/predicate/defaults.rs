//! Functions that answer with a tenant where there is none.

use crate::audit::catalog::Catalog;
use crate::audit::samples::{Context, Tenants};
use crate::audit::session::{As, Session};
use crate::audit::subject::Subject;
use crate::error::Error;

/// Those that return the tenant of the context, and another one where there is no context, as the
/// server writes them.
pub(in crate::audit) async fn defaulting(
    session: &mut Session,
    catalog: &Catalog,
    subject: &Subject,
) -> Result<Vec<String>, Error> {
    let mut defaulting = Vec::new();
    let own = catalog.reach.own();
    let mut roles = own.filter_map(|role| catalog.roles.get(&role));
    let Some(role) = roles.next() else {
        return Ok(defaulting);
    };
    for helper in &catalog.helpers {
        let Some(tenants) = Tenants::of(&[(&helper.base_type, &helper.category)], None) else {
            continue;
        };
        for setting in subject.key_settings() {
            let mut answers = Vec::new();
            for context in [Context::Empty, Context::Own] {
                let settings = tenants.settings(context, &[setting], &[]);
                let who = As {
                    role: Some(&role.name),
                    settings: &settings,
                    ..As::default()
                };
                let sql = format!("SELECT {}()::text", helper.name);
                let answer = session.attempt(who, &sql).await?;
                answers.push(
                    answer
                        .ok()
                        .and_then(|rows| rows.into_iter().flatten().next()?),
                );
            }
            let [without, with] = &answers[..] else {
                continue;
            };
            let has_default = without.as_deref().is_some_and(|answer| !answer.is_empty());
            if has_default && with.as_deref() == tenants.own().first().map(String::as_str) {
                defaulting.push(format!("{}()", helper.name));
            }
        }
    }
    Ok(defaulting)
}
