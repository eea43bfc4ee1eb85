//! Who acts.

mod payload;

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::error::{Error, ErrorKind};
use crate::settings::ContextSettings;
use crate::tenant::TenantId;

/// Who acts: the tenant, perhaps a user, and further settings that policies read.
///
/// Immutable and serialisable: a job carries its context in its payload. What it holds is checked
/// when it is bound by [`TenantRegistry::scope`](crate::TenantRegistry::scope), which knows the
/// names of the settings that the database has been prepared for.
///
/// * The user has 1 to 255 bytes, a setting's value at most 8,192, neither holds a NUL byte.
/// * Everything else is passed on as it is: PostgreSQL receives it as a bound or an escaped
///   value and never as SQL.
///
/// `Debug` shows the tenant and the names of the settings, never the user or a value.
///
/// ```
/// use tenantry::{TenantContext, TenantId};
///
/// let context = TenantContext::new("acme".parse::<TenantId>()?)
///     .user(4711)
///     .setting("app.role", "clerk");
/// assert_eq!(context.tenant().as_str(), "acme");
/// assert!(!format!("{context:?}").contains("clerk"));
/// # Ok::<(), tenantry::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct TenantContext {
    tenant: TenantId,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    settings: BTreeMap<String, String>,
}

const MAX_USER: usize = 255;
const MAX_VALUE: usize = 8_192;

impl TenantContext {
    /// A context of this tenant with no user.
    pub fn new(tenant: impl Into<TenantId>) -> Self {
        Self {
            tenant: tenant.into(),
            user: None,
            settings: BTreeMap::new(),
        }
    }

    /// The same with a user: a UUID, a number, a name.
    #[must_use]
    pub fn user(mut self, user: impl ToString) -> Self {
        self.user = Some(user.to_string());
        self
    }

    /// The same with a further setting, such as `app.role`. A setting that the context does not
    /// carry is empty in the database, whatever an earlier context had there.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.insert(name.into(), value.into());
        self
    }

    /// Whose data it is.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The user, if there is one.
    pub fn user_id(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The value of a further setting, if the context carries it.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }

    /// The names of the further settings.
    #[cfg(feature = "testing")]
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.settings.keys().map(String::as_str)
    }

    pub(crate) fn check(&self, known: &ContextSettings) -> Result<(), Error> {
        let refuse = |rule| Err(Error::new(ErrorKind::InvalidContext, rule));
        if let Some(user) = &self.user {
            if user.is_empty() || user.len() > MAX_USER {
                return refuse("the user of a context has 1 to 255 bytes");
            }
            if user.contains('\0') {
                return refuse("the user of a context holds no NUL byte");
            }
        }
        for (name, value) in &self.settings {
            if !known.further().iter().any(|further| **further == **name) {
                return refuse(
                    "the context carries a setting that the database is not prepared for: \
                     name it in ContextSettings::with, for the registry and for the installation",
                );
            }
            if value.len() > MAX_VALUE {
                return refuse("a setting of a context has at most 8,192 bytes");
            }
            if value.contains('\0') {
                return refuse("a setting of a context holds no NUL byte");
            }
        }
        Ok(())
    }
}

impl From<TenantId> for TenantContext {
    fn from(tenant: TenantId) -> Self {
        Self::new(tenant)
    }
}

impl fmt::Debug for TenantContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantContext")
            .field("tenant", &self.tenant.as_str())
            .field("has_user", &self.user.is_some())
            .field("settings", &self.settings.keys().collect::<Vec<_>>())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acme() -> TenantContext {
        TenantContext::new("acme".parse::<TenantId>().expect("an id"))
    }

    #[test]
    fn it_says_what_it_was_made_of() {
        let context = acme().user(4711).setting("app.role", "auditor");
        assert_eq!(context.tenant().as_str(), "acme");
        assert_eq!(context.user_id(), Some("4711"));
        assert_eq!(context.value("app.role"), Some("auditor"));
        assert_eq!(context.value("app.other"), None);
        assert_eq!(acme().user_id(), None);
        #[cfg(feature = "testing")]
        assert!(context.names().eq(["app.role"]));
    }

    #[test]
    fn debug_names_the_tenant_and_hides_user_and_values() {
        let context = acme().user("mallory").setting("app.role", "auditor");
        assert_eq!(
            format!("{context:?}"),
            "TenantContext { tenant: \"acme\", has_user: true, settings: [\"app.role\"] }"
        );
    }

    #[test]
    fn what_it_carries_is_bounded_to_the_byte() {
        let known = ContextSettings::default().with("app.role").expect("known");
        let taken = |context: TenantContext| match context.check(&known) {
            Ok(()) => true,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::InvalidContext);
                false
            }
        };
        assert!(taken(acme()));
        assert!(taken(acme().user("x")));
        assert!(taken(acme().user("x".repeat(MAX_USER))));
        assert!(!taken(acme().user("x".repeat(MAX_USER + 1))));
        assert!(!taken(acme().user("")));
        assert!(!taken(acme().user("a\0b")));
        assert!(taken(acme().setting("app.role", "")));
        assert!(taken(acme().setting("app.role", "x".repeat(MAX_VALUE))));
        assert!(!taken(
            acme().setting("app.role", "x".repeat(MAX_VALUE + 1))
        ));
        assert!(!taken(acme().setting("app.role", "a\0b")));
        assert!(!taken(acme().setting("app.other", "x")));
    }
}
