//! Functions that policies read the context with.

use std::collections::BTreeMap;

use super::samples::{Context, Tenants};
use crate::audit::catalog::Catalog;
use crate::audit::session::{As, Session};
use crate::audit::subject::Subject;
use crate::error::Error;

/// Those that return what a setting holds, and nothing where it is empty, as the server writes them,
/// with that setting. They are asked, as the role that policies hold for, in each context.
pub(in crate::audit) async fn helpers(
    session: &mut Session,
    catalog: &Catalog,
    subject: &Subject,
) -> Result<BTreeMap<String, String>, Error> {
    let mut helpers = BTreeMap::new();
    let Some(role) = catalog
        .reach
        .own()
        .find_map(|role| catalog.roles.get(&role))
    else {
        return Ok(helpers);
    };
    for helper in &catalog.helpers {
        let Some(tenants) = Tenants::of(&[(&helper.base_type, &helper.category)]) else {
            continue;
        };
        for setting in subject.key_settings() {
            let mut is_context = true;
            for context in [Context::Empty, Context::Own] {
                let settings = tenants.settings(context, &[setting], &[], "");
                let who = As {
                    role: Some(&role.name),
                    settings: &settings,
                };
                let sql = format!("SELECT {}()::text", helper.name);
                let answer = session.attempt(who, &sql).await?;
                let value = answer.map(|rows| rows.into_iter().flatten().next().flatten());
                is_context &= match (context, value) {
                    (Context::Own, Ok(value)) => value.as_deref() == Some(tenants.own()),
                    (Context::Own, Err(_)) => false,
                    // Nothing, or it refuses to work without a tenant.
                    (_, Ok(value)) => value.is_none(),
                    (_, Err(_)) => true,
                };
            }
            if is_context {
                helpers.insert(helper.name.clone(), setting.to_owned());
            }
        }
    }
    Ok(helpers)
}
