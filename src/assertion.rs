//! The context as PostgreSQL is told it: rendered in one place, for the hidden argument of a
//! statement and for the messages that begin and end a transaction.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::context::TenantContext;
use crate::error::Error;
use crate::quote;
use crate::settings::ContextSettings;
use crate::signing::Signer;
use crate::sql::{LAYOUT, SEALED_LAYOUT};
use crate::tenant::TenantId;

/// A context, checked and rendered once, used by every statement of a scope.
pub(crate) struct Assertion {
    context: TenantContext,
    argument: Argument,
    question: Box<str>,
    set_local: Box<str>,
    settings: usize,
}

enum Argument {
    Plain(Arc<[u8]>),
    Signed(Box<Signed>),
}

/// Rendered anew when the token of the last one grows old.
struct Signed {
    signer: Arc<Signer>,
    /// Tenant, user and further settings.
    body: Box<[Box<str>]>,
    last: Mutex<Option<Token>>,
}

struct Token {
    /// When it ends, in seconds of the Unix epoch.
    expires: u64,
    argument: Arc<[u8]>,
}

/// The OID of `text`, fixed by PostgreSQL's `pg_type.dat`.
const TEXT_OID: u32 = 25;

impl Assertion {
    /// With a signer, for databases that are sealed.
    pub(crate) fn new(
        context: TenantContext,
        names: &ContextSettings,
        signer: Option<&Arc<Signer>>,
    ) -> Result<Self, Error> {
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
        let argument = match signer {
            None => Argument::Plain(text_array(elements).into()),
            Some(signer) => Argument::Signed(Box::new(Signed {
                signer: Arc::clone(signer),
                body: pairs.iter().map(|pair| pair.1.into()).collect(),
                last: Mutex::default(),
            })),
        };
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
            argument,
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
    pub(crate) fn argument(&self) -> Arc<[u8]> {
        match &self.argument {
            Argument::Plain(argument) => Arc::clone(argument),
            Argument::Signed(signed) => signed.argument(now()),
        }
    }

    /// Whether the context is signed. It is then said by arguments alone: a message of the simple
    /// protocol has none, and a token in its text would be there to be read.
    pub(crate) fn is_signed(&self) -> bool {
        matches!(self.argument, Argument::Signed(_))
    }

    /// What asks a database whether it serves this tenant, to stand in front of all else in a
    /// message of the simple protocol: the argument's own type refuses as it does for a statement.
    /// Not of a signed context.
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

impl Signed {
    /// One that counts for half of its time at least.
    ///
    /// By the clock of the wall, because the server has no other: where it was set back, what was
    /// signed before would last too long.
    fn argument(&self, now: u64) -> Arc<[u8]> {
        let lifetime = self.signer.lifetime();
        let mut last = self.last.lock();
        if let Some(token) = &*last
            && token.expires <= now + lifetime
            && token.expires >= now + lifetime.div_ceil(2)
        {
            return Arc::clone(&token.argument);
        }
        let expires = now + lifetime;
        let token = last.insert(Token {
            expires,
            argument: self.render(expires),
        });
        Arc::clone(&token.argument)
    }

    /// What is signed is what `array_send` makes of all but the last element, which is the token.
    fn render(&self, expires: u64) -> Arc<[u8]> {
        let expires = expires.to_string();
        let mut elements = vec![SEALED_LAYOUT];
        elements.extend(self.body.iter().map(|element| &**element));
        elements.extend([self.signer.id(), &expires]);
        let token = self.signer.sign(&text_array(elements.iter().copied()));
        elements.push(&token);
        text_array(elements.into_iter()).into()
    }
}

/// Seconds of the Unix epoch. Before it no token lasts.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
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

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::secret::{Secret, SecretError, SecretResolver, SecretString};
    use crate::signing::SigningKey;

    struct Always;

    #[async_trait]
    impl SecretResolver for Always {
        async fn resolve(&self, _reference: &str) -> Result<SecretString, SecretError> {
            Ok("0123456789abcdef0123456789abcdef".into())
        }
    }

    async fn signed() -> Result<Signed, Error> {
        let key = SigningKey::new("k1", Secret::resolver(Arc::new(Always), "k"))?;
        Ok(Signed {
            signer: Arc::new(key.signer().await?),
            body: ["acme", ""].map(Into::into).into(),
            last: Mutex::default(),
        })
    }

    fn elements(bytes: &[u8]) -> Vec<String> {
        let mut rest = &bytes[20..];
        let mut elements = Vec::new();
        while let Some((length, behind)) = rest.split_first_chunk::<4>() {
            let (text, behind) = behind.split_at(u32::from_be_bytes(*length) as usize);
            elements.push(String::from_utf8(text.to_vec()).expect("UTF-8"));
            rest = behind;
        }
        elements
    }

    #[tokio::test]
    async fn the_last_element_signs_the_ones_before() -> Result<(), Error> {
        let signed = signed().await?;
        let found = elements(&signed.argument(1_000));
        let [before @ .., token] = &found[..] else {
            panic!("{found:?}");
        };
        assert_eq!(before, ["sealed-1", "acme", "", "k1", "1060"]);
        let message = text_array(before.iter().map(String::as_str));
        assert_eq!(*token, signed.signer.sign(&message));
        Ok(())
    }

    #[tokio::test]
    async fn it_is_signed_anew_when_less_than_half_is_left() -> Result<(), Error> {
        let signed = signed().await?;
        let expires = |now| elements(&signed.argument(now))[4].clone();
        assert_eq!(expires(1_000), "1060");
        assert_eq!(expires(1_030), "1060");
        assert_eq!(expires(1_031), "1091");
        // A clock that was set back.
        assert_eq!(expires(500), "560");
        Ok(())
    }
}
