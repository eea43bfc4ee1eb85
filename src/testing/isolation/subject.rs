//! What a proof is to take for granted.

use crate::audit::{Allowance, AuditConfig};
use crate::context::TenantContext;
use crate::settings::ContextSettings;
use crate::sql::Installation;

/// Whose isolation is to be proven, and what is meant to be common to all tenants.
///
/// Names of tables and views are read as SQL reads them, functions with their arguments' types.
/// One that is not there is an error: a list that nobody keeps is none.
///
/// ```
/// use tenantry::sql::Installation;
/// use tenantry::testing::isolation::Isolation;
///
/// let isolation = Isolation::from(Installation::new("app"))
///     .global_table("app.countries")
///     .reviewed("app.search(text)");
/// # let _ = isolation;
/// ```
#[derive(Clone, Debug)]
#[must_use = "it is only a description: hand it to `prove_isolation`"]
pub struct Isolation {
    roles: Vec<String>,
    column: String,
    columns: Vec<(String, String)>,
    settings: ContextSettings,
    global: Vec<String>,
    reviewed: Vec<String>,
    allowances: Vec<Allowance>,
    contexts: Option<[TenantContext; 2]>,
}

impl Isolation {
    /// The isolation of tenants served as this role, with the tenant column `tenant_id` and the
    /// default names of settings.
    ///
    /// Name the role that logs in. Where the installation names a group of such roles, add them
    /// with [`role`](Self::role).
    pub fn of(application_role: impl Into<String>) -> Self {
        Self {
            roles: vec![application_role.into()],
            column: "tenant_id".to_owned(),
            columns: Vec::new(),
            settings: ContextSettings::default(),
            global: Vec::new(),
            reviewed: Vec::new(),
            allowances: Vec::new(),
            contexts: None,
        }
    }

    /// Another role that tenants are served as.
    pub fn role(mut self, role: impl Into<String>) -> Self {
        self.roles.push(role.into());
        self
    }

    /// The name of the tenant column: a table that has it holds the rows of tenants.
    pub fn tenant_column(mut self, name: impl Into<String>) -> Self {
        self.column = name.into();
        self
    }

    /// The tenant column of one table, where it has another name: `id` of a table of tenants for
    /// example.
    pub fn tenant_column_of(mut self, table: impl Into<String>, column: impl Into<String>) -> Self {
        self.columns.push((table.into(), column.into()));
        self
    }

    /// The settings that policies read the context from.
    pub fn settings(mut self, settings: ContextSettings) -> Self {
        self.settings = settings;
        self
    }

    /// A table that all tenants read and none writes, such as a list of countries. Those that
    /// [`ReferenceTable`](crate::sql::ReferenceTable) made are known.
    pub fn global_table(mut self, name: impl Into<String>) -> Self {
        self.global.push(name.into());
        self
    }

    /// A table, a view, or a function with its arguments (`app.search(text)`), that you have looked
    /// at yourself: nothing is said about it.
    pub fn reviewed(mut self, name: impl Into<String>) -> Self {
        self.reviewed.push(name.into());
        self
    }

    /// One finding that is to stay, with the reason; see [`Allowance`].
    pub fn allow(mut self, allowance: Allowance) -> Self {
        self.allowances.push(allowance);
        self
    }

    /// Two tenants, for policies that ask other tables or the user: the rows that these policies
    /// ask for have to be there. Default: two that are made up, with a user that is.
    pub fn contexts(
        mut self,
        one: impl Into<TenantContext>,
        other: impl Into<TenantContext>,
    ) -> Self {
        self.contexts = Some([one.into(), other.into()]);
        self
    }

    /// The same, as an auditor is told it.
    pub(super) fn config(&self) -> AuditConfig {
        let (first, others) = self
            .roles
            .split_first()
            .map_or(("", &[][..]), |(first, others)| (first.as_str(), others));
        let mut config = AuditConfig::new(first)
            .tenant_column(&self.column, self.settings.tenant())
            .setting(self.settings.user());
        for role in others {
            config = config.role(role);
        }
        for name in self.settings.further() {
            config = config.setting(name.to_string());
        }
        for (table, column) in &self.columns {
            config = config.tenant_column_of(table, column);
        }
        for table in &self.global {
            config = config.global_table(table);
        }
        for name in &self.reviewed {
            config = config.reviewed(name);
        }
        for allowance in &self.allowances {
            config = config.allow(allowance.clone());
        }
        match &self.contexts {
            Some([one, other]) => config.contexts(self.held(one), self.held(other)),
            None => config,
        }
    }

    /// What the settings hold in a context.
    fn held(&self, context: &TenantContext) -> Vec<(String, String)> {
        let names = &self.settings;
        let further = names.further().iter().map(|name| {
            let value = context.value(name).unwrap_or("");
            (name.to_string(), value.to_owned())
        });
        let tenant = (
            names.tenant().to_owned(),
            context.tenant().as_str().to_owned(),
        );
        let user = context.user_id().unwrap_or("");
        let user = (names.user().to_owned(), user.to_owned());
        [tenant, user].into_iter().chain(further).collect()
    }
}

impl From<&Installation> for Isolation {
    fn from(installation: &Installation) -> Self {
        Self::of(installation.application_role())
            .tenant_column(installation.tenant_column_name())
            .settings(installation.context_settings().clone())
    }
}

impl From<Installation> for Isolation {
    fn from(installation: Installation) -> Self {
        Self::from(&installation)
    }
}
