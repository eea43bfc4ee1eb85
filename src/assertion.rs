//! The context as PostgreSQL is told it: rendered in one place, for the hidden argument of a
//! statement and for the messages that begin and end a transaction.

use crate::context::TenantContext;
use crate::error::Error;
use crate::quote;
use crate::settings::ContextSettings;
use crate::sql::LAYOUT;
use crate::tenant::TenantId;

/// A context, checked and rendered once, used by every statement of a scope.
pub(crate) struct Assertion {
    context: TenantContext,
    argument: Box<[u8]>,
    question: Box<str>,
    set_local: Box<str>,
    settings: usize,
}

/// The OID of `text`, fixed by PostgreSQL's `pg_type.dat`.
const TEXT_OID: u32 = 25;

impl Assertion {
    pub(crate) fn new(context: TenantContext, names: &ContextSettings) -> Result<Self, Error> {
        context.check(names)?;
        let tenant = (names.tenant(), context.tenant().as_str());
        let user = (names.user(), context.user_id().unwrap_or_default());
        let further = names
            .further()
            .iter()
            .map(|name| (&**name, context.value(name).unwrap_or_default()));
        let pairs: Vec<(&str, &str)> = [tenant, user].into_iter().chain(further).collect();

        let layout = LAYOUT.to_string();
        let values = pairs.iter().map(|pair| pair.1);
        let elements = std::iter::once(&*layout).chain(values);
        let literals: Vec<String> = elements.clone().map(quote::literal).collect();
        let question = format!(
            "SELECT ARRAY[{}]::tenantry.scope; COMMIT; ",
            literals.join(", ")
        );
        let argument = text_array(elements);
        let mut set_local = String::new();
        for (name, value) in &pairs {
            set_local.push_str("SET LOCAL ");
            set_local.push_str(&setting(name));
            set_local.push_str(" = ");
            set_local.push_str(&quote::literal(value));
            set_local.push_str("; ");
        }
        let settings = pairs.len();
        Ok(Self {
            argument: argument.into(),
            question: question.into(),
            set_local: set_local.into(),
            settings,
            context,
        })
    }

    pub(crate) fn context(&self) -> &TenantContext {
        &self.context
    }

    pub(crate) fn tenant(&self) -> &TenantId {
        self.context.tenant()
    }

    /// The binary form of the `text[]` that the domain `tenantry.scope` checks.
    pub(crate) fn argument(&self) -> &[u8] {
        &self.argument
    }

    /// What asks a database whether it serves this tenant, to stand in front of all else in a
    /// message of the simple protocol: the argument's own type refuses as it does for a statement.
    ///
    /// It takes a snapshot, and so is a transaction of its own, which COMMIT ends: the message's
    /// implicit one, and there is nothing in it that lasts.
    pub(crate) fn question(&self) -> &str {
        &self.question
    }

    /// `SET LOCAL ..; SET LOCAL ..; ` for a message of the simple protocol.
    ///
    /// Not `SELECT set_config(..)`: a SELECT takes the snapshot of a REPEATABLE READ transaction,
    /// and must not come before `BEGIN ISOLATION LEVEL ..` in the same message.
    pub(crate) fn set_local(&self) -> &str {
        &self.set_local
    }

    /// How many statements [`set_local`](Self::set_local) is.
    pub(crate) fn statements(&self) -> usize {
        self.settings
    }
}

impl std::fmt::Debug for Assertion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Assertion").field(&self.context).finish()
    }
}

/// A name such as `app.tenant_id`: each part is an identifier of its own, and may be a keyword.
fn setting(name: &str) -> String {
    name.split('.')
        .map(quote::identifier)
        .collect::<Vec<_>>()
        .join(".")
}

/// The binary form of a one-dimensional array, as `array_recv` in PostgreSQL's `arrayfuncs.c`
/// reads it.
fn text_array<'a>(elements: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let elements: Vec<&str> = elements.collect();
    let (dimensions, has_null, lower_bound) = (1_u32, 0_u32, 1_u32);
    let mut bytes = Vec::new();
    for word in [
        dimensions,
        has_null,
        TEXT_OID,
        elements.len() as u32,
        lower_bound,
    ] {
        bytes.extend_from_slice(&word.to_be_bytes());
    }
    for element in elements {
        bytes.extend_from_slice(&(element.len() as u32).to_be_bytes());
        bytes.extend_from_slice(element.as_bytes());
    }
    bytes
}
