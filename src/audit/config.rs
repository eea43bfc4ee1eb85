//! What an audit is told; everything else it finds out.

use std::fmt;

use super::samples::Settings;
use crate::error::{Error, ErrorKind};
use crate::quote;
use crate::settings::ContextSettings;
use crate::sql::Installation;

/// Whose isolation is audited, and what is meant to be common to all tenants.
///
/// Names of tables are read as SQL reads them (`app.countries`, `"Weird Name"`), those without a
/// schema are found by the search path of the pool.
///
/// ```
/// use tenantry::audit::AuditConfig;
///
/// let config = AuditConfig::new("app")
///     .tenant_column("tenant_id", "app.tenant_id")
///     .tenants_table("app.tenants", "id")
///     .global_table("app.countries");
/// # let _ = config;
/// ```
#[derive(Clone, Debug)]
#[must_use = "it is only a description: hand it to `Auditor::new`"]
pub struct AuditConfig {
    pub(super) roles: Vec<String>,
    /// The columns of a tenant's key, and the setting each is compared with.
    pub(super) key: Vec<KeyColumn>,
    pub(super) further_settings: Vec<String>,
    pub(super) columns_of: Vec<(String, String)>,
    pub(super) global: Vec<String>,
    pub(super) allowances: Vec<super::Allowance>,
    /// What was looked at, and nothing is to be said of.
    #[cfg(feature = "testing")]
    pub(super) reviewed: Vec<String>,
    /// What the settings hold for each of two tenants.
    pub(super) contexts: Option<Contexts>,
}

/// What the settings of the context hold for each of two tenants.
#[derive(Clone)]
pub(super) struct Contexts(pub(super) [Settings; 2]);

/// Without tenants and users, who may be real ones.
impl fmt::Debug for Contexts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Contexts(..)")
    }
}

/// A column of the tenant's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyColumn {
    pub(super) name: String,
    pub(super) setting: String,
}

impl AuditConfig {
    /// For tenants that are served as this role. Name the one that logs in; of a group of such
    /// roles name each, with [`role`](Self::role).
    ///
    /// Unless said otherwise, the tenant column is `tenant_id` and the settings are those of
    /// [`ContextSettings::default`].
    pub fn new(application_role: impl Into<String>) -> Self {
        Self {
            roles: vec![application_role.into()],
            key: Vec::new(),
            further_settings: Vec::new(),
            columns_of: Vec::new(),
            global: Vec::new(),
            allowances: Vec::new(),
            #[cfg(feature = "testing")]
            reviewed: Vec::new(),
            contexts: None,
        }
    }

    /// Another role that tenants are served as.
    pub fn role(mut self, role: impl Into<String>) -> Self {
        self.roles.push(role.into());
        self
    }

    /// The column that says whose a row is, and the setting that policies compare it with. Where a
    /// tenant's key has several columns (an organisation and a workspace) say each, the outermost
    /// first: a table may have all of them or only the first few.
    pub fn tenant_column(mut self, column: impl Into<String>, setting: impl Into<String>) -> Self {
        self.key.push(KeyColumn {
            name: column.into(),
            setting: setting.into(),
        });
        self
    }

    /// A further setting that policies may read, such as that of the user.
    pub fn setting(mut self, setting: impl Into<String>) -> Self {
        self.further_settings.push(setting.into());
        self
    }

    /// The tenant column of one table, where it has another name there. Both have to be there when the
    /// database is audited.
    pub fn tenant_column_of(mut self, table: impl Into<String>, column: impl Into<String>) -> Self {
        self.columns_of.push((table.into(), column.into()));
        self
    }

    /// The table of tenants itself, and the column that is the tenant: `("app.tenants", "id")`.
    pub fn tenants_table(self, table: impl Into<String>, column: impl Into<String>) -> Self {
        self.tenant_column_of(table, column)
    }

    /// A table that all tenants read and none writes, such as a list of countries. Those that
    /// [`ReferenceTable`](crate::sql::ReferenceTable) made are known.
    pub fn global_table(mut self, name: impl Into<String>) -> Self {
        self.global.push(name.into());
        self
    }

    /// Something that was looked at and is to be allowed, with the reason.
    pub fn allow(mut self, allowance: super::Allowance) -> Self {
        self.allowances.push(allowance);
        self
    }

    /// A relation, or a function with the types of its arguments, of which nothing is to be said.
    #[cfg(feature = "testing")]
    pub(crate) fn reviewed(mut self, name: impl Into<String>) -> Self {
        self.reviewed.push(name.into());
        self
    }

    /// Two tenants that are there, as the settings of the context hold them, for policies that ask other
    /// tables or the user: the rows that these policies ask for have to be there.
    ///
    /// ```
    /// use tenantry::audit::AuditConfig;
    ///
    /// let config = AuditConfig::new("app")
    ///     .tenant_column("tenant_id", "app.tenant_id")
    ///     .setting("app.user_id")
    ///     .contexts(
    ///         [("app.tenant_id", "1"), ("app.user_id", "ann")],
    ///         [("app.tenant_id", "2"), ("app.user_id", "bob")],
    ///     );
    /// # let _ = config;
    /// ```
    ///
    /// Default: two that are made up, with users that are.
    pub fn contexts<N: Into<String>, V: Into<String>>(
        mut self,
        one: impl IntoIterator<Item = (N, V)>,
        other: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let owned = |(name, value): (N, V)| (name.into(), value.into());
        self.contexts = Some(Contexts([
            one.into_iter().map(owned).collect(),
            other.into_iter().map(owned).collect(),
        ]));
        self
    }

    /// The tenant's key, with the default where none was said.
    pub(super) fn key(&self) -> Vec<KeyColumn> {
        match self.key.is_empty() {
            false => self.key.clone(),
            true => vec![KeyColumn {
                name: "tenant_id".to_owned(),
                setting: ContextSettings::default().tenant().to_owned(),
            }],
        }
    }

    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`] for what cannot be a name, and for contexts that are not of two
    /// tenants.
    pub(super) fn check(&self) -> Result<(), Error> {
        for role in &self.roles {
            quote::check_name(role)?;
        }
        for column in &self.key {
            quote::check_name(&column.name)?;
        }
        for (_, column) in &self.columns_of {
            quote::check_name(column)?;
        }
        if let Some(contexts) = &self.contexts {
            self.check_contexts(&contexts.0)?;
        }
        Ok(())
    }

    fn check_contexts(&self, contexts: &[Settings; 2]) -> Result<(), Error> {
        let key = self.key();
        let [own, other] = contexts.each_ref().map(|settings| {
            let value = |column: &KeyColumn| {
                let mut settings = settings.iter();
                settings.find(|(name, _)| name.eq_ignore_ascii_case(&column.setting))
            };
            let values = key.iter().map(value);
            let values: Option<Vec<_>> =
                values.map(|found| found.map(|(_, value)| value)).collect();
            values
        });
        match (own, other) {
            (Some(own), Some(other)) if own != other => Ok(()),
            (Some(_), Some(_)) => Err(Error::new(
                ErrorKind::InvalidOption,
                "the two contexts are of one tenant: it takes two",
            )),
            _ => Err(Error::new(
                ErrorKind::InvalidOption,
                "the two contexts hold a value for each setting of the tenant's key",
            )),
        }
    }
}

impl From<&Installation> for AuditConfig {
    fn from(installation: &Installation) -> Self {
        let settings = installation.context_settings();
        let config = Self::new(installation.application_role())
            .tenant_column(installation.tenant_column_name(), settings.tenant())
            .setting(settings.user());
        settings
            .further()
            .iter()
            .fold(config, |config, name| config.setting(name.to_string()))
    }
}

impl From<Installation> for AuditConfig {
    fn from(installation: Installation) -> Self {
        Self::from(&installation)
    }
}
