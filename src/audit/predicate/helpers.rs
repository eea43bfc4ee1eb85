//! Functions that policies read the context with.

use std::collections::BTreeMap;

use crate::audit::catalog::Catalog;
use crate::audit::samples::{Context, Tenants};
use crate::audit::session::{As, Session};
use crate::audit::subject::Subject;
use crate::error::Error;
use crate::sql::own;

/// What functions without arguments, which policies call, answer: each as the server writes its name.
#[derive(Debug, Default)]
pub(in crate::audit) struct Answers {
    /// Those that return what a setting holds, and nothing where it is empty, with that setting.
    pub(in crate::audit) helpers: BTreeMap<String, String>,
    /// Calls of those that return the tenant of the context, and another one where there is none.
    pub(in crate::audit) defaulting: Vec<String>,
}

/// Each is asked as the role that policies hold for, without a context and in one.
pub(in crate::audit) async fn answers(
    session: &mut Session,
    catalog: &Catalog,
    subject: &Subject,
) -> Result<Answers, Error> {
    let mut answers = Answers::default();
    let Some(role) = catalog
        .reach
        .own()
        .find_map(|role| catalog.roles.get(&role))
    else {
        return Ok(answers);
    };
    let verified = format!("{}.{}", own::SCHEMA, own::TENANT);
    for helper in &catalog.helpers {
        if session.trusts_seal() && helper.name == verified && is_sealed(catalog) {
            let setting = subject.key_settings().next().map(str::to_owned);
            let trusted = setting.map(|setting| (helper.name.clone(), setting));
            answers.helpers.extend(trusted);
            continue;
        }
        let Some(tenants) = Tenants::of(&[(&helper.base_type, &helper.category)], None) else {
            continue;
        };
        for setting in subject.key_settings() {
            let mut answer = async |context| {
                let settings = tenants.settings(context, &[setting], &[]);
                let who = As {
                    role: Some(&role.name),
                    settings: &settings,
                    ..As::default()
                };
                let sql = format!("SELECT {}()::text", helper.name);
                let answer = session.attempt(who, &sql).await?;
                Ok::<_, Error>(answer.map(|rows| rows.into_iter().flatten().next().flatten()))
            };
            let without = answer(Context::Empty).await?;
            let with = answer(Context::Own).await?;
            let is_own = with.is_ok_and(|with| with.as_ref() == tenants.own().first());
            match without {
                _ if !is_own => {}
                // Nothing, or it refuses to work without a tenant.
                Ok(None) | Err(_) => {
                    answers
                        .helpers
                        .insert(helper.name.clone(), setting.to_owned());
                }
                Ok(Some(other)) if !other.is_empty() => {
                    answers.defaulting.push(format!("{}()", helper.name));
                }
                Ok(Some(_)) => {}
            }
        }
    }
    Ok(answers)
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
