//! Functions that policies read the context with.

use std::collections::BTreeMap;

use crate::audit::catalog::Catalog;
use crate::audit::samples::{Context, Tenants};
use crate::audit::session::{As, Session};
use crate::audit::subject::Subject;
use crate::error::Error;
use crate::sql::own;

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
    let verified = format!("{}.{}", own::SCHEMA, own::TENANT);
    for helper in &catalog.helpers {
        if session.trusts_seal() && helper.name == verified && is_sealed(catalog) {
            let setting = subject.key_settings().next().map(str::to_owned);
            helpers.extend(setting.map(|setting| (helper.name.clone(), setting)));
            continue;
        }
        let Some(tenants) = Tenants::of(&[(&helper.base_type, &helper.category)], None) else {
            continue;
        };
        for setting in subject.key_settings() {
            let mut is_context = true;
            for context in [Context::Empty, Context::Own] {
                let settings = tenants.settings(context, &[setting], &[]);
                let who = As {
                    role: Some(&role.name),
                    settings: &settings,
                    ..As::default()
                };
                let sql = format!("SELECT {}()::text", helper.name);
                let answer = session.attempt(who, &sql).await?;
                let value = answer.map(|rows| rows.into_iter().flatten().next().flatten());
                is_context &= match (context, value) {
                    (Context::Own, Ok(value)) => {
                        value.as_deref() == tenants.own().first().map(String::as_str)
                    }
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

/// Whether the function that verifies the seal is this crate's own. It refuses a context that was
/// made up, so that there is nothing to ask it: it counts by its name, if nobody has made it who could
/// not have made all that is installed.
fn is_sealed(catalog: &Catalog) -> bool {
    catalog.functions.iter().any(|function| {
        let is_owned_with_its_schema = catalog
            .schemas
            .get(&function.schema)
            .is_some_and(|schema| schema.owner == function.owner);
        catalog.is_of_this_crate(function.schema, &function.name, &[own::TENANT])
            && function.security_definer
            && is_owned_with_its_schema
            && !catalog.reach.contains(function.owner)
    })
}
