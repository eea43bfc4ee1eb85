//! Functions and procedures, with arguments that are made up.

use super::Try;
use super::crossing::{Crossing, Deed};
use super::seed::{CANARY, FOREIGN_CANARY};
use super::tables::End;
use crate::audit::catalog::Function;
use crate::audit::samples::Context;
use crate::audit::session::As;
use crate::audit::unseen::Unseen;
use crate::error::Error;
use crate::quote;
use crate::sql::own;

/// What arguments may be, all of one call of the same kind.
#[derive(Clone, Copy)]
enum Arguments {
    Null,
    /// Every text to LIKE.
    Pattern,
    /// The tenant that it is not, where a tenant can be of the type.
    Foreign,
}

impl<'a> Try<'a> {
    pub(super) async fn functions(&mut self, context: Context) -> Result<(), Error> {
        let user = self.users(context).into_iter().next().unwrap_or_default();
        let settings = self.context(context, &user);
        let state = self.ground.state();
        let before = match !state.is_empty() && self.session.is_above_policies() {
            true => Some(self.before(&state, None).await?),
            false => None,
        };
        for function in self.callable() {
            let all = match function.arguments.is_empty() {
                true => &[Arguments::Null][..],
                false => &[Arguments::Null, Arguments::Pattern, Arguments::Foreign][..],
            };
            for asking in self.asking.clone() {
                let who = As {
                    is_hurried: true,
                    ..asking.with(&settings)
                };
                for arguments in all {
                    let arguments = self.arguments(function, *arguments).join(", ");
                    let call = format!("{}({arguments})", function.path);
                    let crossing = |deed, name: &str| Crossing {
                        object: function.display.clone(),
                        relation: None,
                        deed,
                        what: format!("{name} {call}"),
                        context,
                    };
                    let is_procedure = function.noun == "PROCEDURE";
                    if !is_procedure && self.shows(function, who, &call, context).await? {
                        self.crossings.add(asking, crossing(Deed::Read, "SELECT"));
                    }
                    let name = if is_procedure { "CALL" } else { "SELECT" };
                    let Some(before) = &before else { continue };
                    match self
                        .run(who, &format!("{name} {call}"), before, None)
                        .await?
                    {
                        End::Refused(code) => self.note(&function.display, &code),
                        End::Nothing => _ = self.called.insert(function.oid),
                        End::Crossed => {
                            self.called.insert(function.oid);
                            self.crossings.add(asking, crossing(Deed::Written, name));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether its value holds a text that was made up.
    async fn shows(
        &mut self,
        function: &Function,
        who: As<'_>,
        call: &str,
        context: Context,
    ) -> Result<bool, Error> {
        let canary = match context {
            Context::Own => FOREIGN_CANARY,
            _ => CANARY,
        };
        let select = format!(
            "SELECT 1::text FROM (SELECT {call} AS tenantry_value) AS tenantry_row \
             WHERE pg_catalog.to_jsonb(tenantry_value)::text LIKE {} LIMIT 1",
            quote::literal(&format!("%{canary}%"))
        );
        Ok(match self.session.attempt(who, &select).await? {
            Ok(rows) => {
                self.called.insert(function.oid);
                !rows.is_empty()
            }
            Err(code) => {
                self.note(&function.display, &code);
                false
            }
        })
    }

    pub(super) fn tell_uncalled(&mut self) {
        for function in self.callable() {
            if !self.called.contains(&function.oid) {
                let why = "no call of it succeeded, with no arguments that were made up";
                self.unseen.push(Unseen::new(&function.display, why));
            }
        }
    }

    /// Those that somebody made, and who serves tenants may call.
    fn callable(&self) -> impl Iterator<Item = &'a Function> + use<'a> {
        let catalog = self.catalog;
        catalog.functions.iter().filter(move |function| {
            let is_callable = function
                .callers
                .iter()
                .any(|caller| catalog.is_ours(*caller))
                && catalog.may_use(function.schema);
            // These take the tenant from the context.
            let is_known =
                catalog.is_of_this_crate(function.schema, &function.name, &own::FUNCTIONS);
            is_callable && !is_known && !function.is_trigger && function.is_plain
        })
    }

    fn arguments(&self, function: &Function, arguments: Arguments) -> Vec<String> {
        let foreign = self.ground.planted.first();
        let foreign = foreign.and_then(|planted| planted.tenants.other().first());
        let of = |kind: &String| {
            let value = match (arguments, kind.as_str()) {
                (Arguments::Pattern, "text" | "character varying" | "name") => Some("%"),
                (
                    Arguments::Foreign,
                    "text" | "character varying" | "integer" | "bigint" | "smallint" | "uuid"
                    | "numeric",
                ) => foreign.map(String::as_str),
                _ => None,
            };
            match value {
                Some(value) => format!("{}::{kind}", quote::literal(value)),
                None => format!("NULL::{kind}"),
            }
        };
        function.arguments.iter().map(of).collect()
    }
}
