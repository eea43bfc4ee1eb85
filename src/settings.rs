//! The names of the settings that carry the context.

use crate::error::{Error, ErrorKind};

/// What the names of settings begin with that are the crate's own: the seal of a context is one.
const OWN: &str = "tenantry.";

/// The longest name PostgreSQL stores in a dump of settings without cutting it.
const MAX_BYTES: usize = 63;

/// The names of the PostgreSQL settings that carry a tenant, a user and whatever else a policy
/// asks for.
///
/// The tenant and the user have a setting each, by default `app.tenant_id` and `app.user_id`.
/// Further ones come behind them, in an order that is part of what is installed in a database:
/// new ones can only be appended.
///
/// A name is two or more parts joined by dots; each part starts with a lower-case letter or an
/// underscore and goes on with those or digits; the whole has at most 63 bytes. The first part is
/// not `tenantry`.
///
/// ```
/// use tenantry::ContextSettings;
///
/// # fn main() -> Result<(), tenantry::Error> {
/// let settings = ContextSettings::new("billing.tenant", "billing.user")?
///     .with("billing.role")?
///     .with("billing.request")?;
/// assert_eq!(settings.tenant(), "billing.tenant");
/// assert_eq!(settings.further(), ["billing.role", "billing.request"]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ContextSettings {
    tenant: String,
    user: String,
    further: Vec<String>,
}

impl ContextSettings {
    /// Names the settings of the tenant and of the user.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`] if a name is not of the form described above, or if both are
    /// the same.
    pub fn new(tenant: impl Into<String>, user: impl Into<String>) -> Result<Self, Error> {
        let (tenant, user) = (tenant.into(), user.into());
        check(&tenant)?;
        check(&user)?;
        if tenant == user {
            return Err(duplicate());
        }
        Ok(Self {
            tenant,
            user,
            further: Vec::new(),
        })
    }

    /// Appends a further setting.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`] if the name is not of the form described above, or is there
    /// already.
    pub fn with(mut self, name: impl Into<String>) -> Result<Self, Error> {
        let name = name.into();
        check(&name)?;
        if name == self.tenant || name == self.user || self.further.contains(&name) {
            return Err(duplicate());
        }
        self.further.push(name);
        Ok(self)
    }

    /// The setting that holds the tenant.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// The setting that holds the user.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The further settings, in order.
    pub fn further(&self) -> &[String] {
        &self.further
    }

    /// Whether a setting of this name belongs to the context.
    pub(crate) fn contains(&self, name: &str) -> bool {
        name.starts_with(OWN)
            || self.tenant == name
            || self.user == name
            || self.further.iter().any(|further| further == name)
    }
}

/// `app.tenant_id` and `app.user_id`.
impl Default for ContextSettings {
    fn default() -> Self {
        Self {
            tenant: "app.tenant_id".to_owned(),
            user: "app.user_id".to_owned(),
            further: Vec::new(),
        }
    }
}

fn check(name: &str) -> Result<(), Error> {
    let is_part = |part: &str| {
        part.starts_with(|c: char| c == '_' || c.is_ascii_lowercase())
            && part
                .chars()
                .all(|c| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    if name.starts_with(OWN) {
        return Err(Error::new(
            ErrorKind::InvalidOption,
            "the settings whose names begin with \"tenantry.\" are the crate's own",
        ));
    }
    // The dot keeps clear of the server's own settings: `role` or `search_path` have none.
    if name.len() > MAX_BYTES || !name.contains('.') || !name.split('.').all(is_part) {
        return Err(Error::new(
            ErrorKind::InvalidOption,
            "the name of a context setting is two or more parts of a-z, 0-9 and _ joined by dots, \
             no part starts with a digit, and it has at most 63 bytes",
        ));
    }
    Ok(())
}

fn duplicate() -> Error {
    Error::new(
        ErrorKind::InvalidOption,
        "each context setting has a name of its own",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_pass_their_own_check() {
        let defaults = ContextSettings::default();
        assert_eq!(
            ContextSettings::new(defaults.tenant(), defaults.user()).ok(),
            Some(defaults)
        );
    }

    #[test]
    fn names_off_the_rule_are_refused_and_not_repeated() {
        let long = format!("app.{}", "x".repeat(60));
        for name in [
            "",
            ".",
            "app",
            "app.",
            ".tenant",
            "app..tenant",
            "App.tenant",
            "app.1st",
            "app.te-nant",
            "app.tenant'",
            "app.tenant id",
            "app.ten\u{e4}nt",
            "role",
            "app.x\0",
            "tenantry.context",
            &long,
        ] {
            let error = ContextSettings::new(name, "app.user_id").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidOption, "{name:?}");
            assert!(
                name.len() < 6 || !error.to_string().contains(name),
                "{error}"
            );
            assert!(ContextSettings::default().with(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_name_has_at_most_63_bytes() {
        let longest = format!("app.{}", "x".repeat(59));
        let settings = ContextSettings::new("a._b2", longest.clone()).expect("63 bytes");
        assert_eq!(settings.tenant(), "a._b2");
        assert_eq!(settings.user(), longest);
        assert!(ContextSettings::new("a.b", format!("{longest}x")).is_err());
    }

    #[test]
    fn names_of_the_context_are_known() -> Result<(), Error> {
        let settings = ContextSettings::default()
            .with("app.role")?
            .with("app.team")?;
        assert_eq!(settings.further(), ["app.role", "app.team"]);
        for name in [
            "app.tenant_id",
            "app.user_id",
            "app.role",
            "app.team",
            "tenantry.context",
        ] {
            assert!(settings.contains(name), "{name}");
        }
        assert!(!settings.contains("app.other"));
        Ok(())
    }

    #[test]
    fn a_name_is_taken_once() -> Result<(), Error> {
        assert!(ContextSettings::new("a.b", "a.b").is_err());
        let settings = ContextSettings::default().with("app.role")?;
        for taken in ["app.tenant_id", "app.user_id", "app.role"] {
            assert!(settings.clone().with(taken).is_err());
        }
        Ok(())
    }
}
