//! What an audit is told; everything else it finds out.

use crate::error::Error;
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

    /// The tenant column of one table, where it has another name there.
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
    /// [`ErrorKind::InvalidOption`](crate::ErrorKind::InvalidOption) for what cannot be a name.
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
        Ok(())
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
