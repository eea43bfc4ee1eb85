//! What is known of the database: the file, with what the options say instead.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use tenantry::ContextSettings;
use tenantry::audit::{Allowance, AuditConfig};
use tenantry::sql::{Installation, TenantType};

use crate::arguments::{Seal, SubjectOptions, Type};
use crate::failure::Failure;

/// Read where it is, without being asked for.
const DEFAULT_FILE: &str = "tenantry.toml";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Configuration {
    application_role: Option<String>,
    tenant_column: Option<String>,
    tenant_type: Option<Type>,
    tenant_setting: Option<String>,
    user_setting: Option<String>,
    further_settings: Vec<String>,
    seal: Option<Seal>,
    pub(crate) tables: Vec<String>,
    pub(crate) reference_tables: Vec<String>,
    pub(crate) authorization: bool,
    pub(crate) number_series: bool,
    pub(crate) trail: bool,
    audit: AuditSection,
    /// The file that it is from.
    #[serde(skip)]
    pub(crate) file: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AuditSection {
    roles: Vec<String>,
    key: Vec<KeyColumn>,
    global_tables: Vec<String>,
    tenants_table: Option<TenantsTable>,
    tenant_columns: BTreeMap<String, String>,
    allow: Vec<Allow>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyColumn {
    column: String,
    setting: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TenantsTable {
    table: String,
    column: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Allow {
    rule: String,
    object: String,
    reason: String,
    until: Option<String>,
}

impl Configuration {
    /// # Errors
    ///
    /// If the file cannot be read, or says what no file says.
    pub(crate) fn read(options: &SubjectOptions) -> Result<Self, Failure> {
        let mut configuration = match &options.config {
            Some(path) => Self::of_file(path)?,
            None if Path::new(DEFAULT_FILE).exists() => Self::of_file(Path::new(DEFAULT_FILE))?,
            None => Self::default(),
        };
        let Self {
            application_role,
            tenant_column,
            tenant_type,
            ..
        } = &mut configuration;
        for (known, said) in [
            (application_role, &options.role),
            (tenant_column, &options.tenant_column),
        ] {
            if said.is_some() {
                known.clone_from(said);
            }
        }
        if options.tenant_type.is_some() {
            *tenant_type = options.tenant_type;
        }
        Ok(configuration)
    }

    fn of_file(path: &Path) -> Result<Self, Failure> {
        let name = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::new(format!("{name} cannot be read")).because(&error))?;
        let mut read: Self = toml::from_str(&text)
            .map_err(|error| Failure::new(format!("{name} is not understood")).because(&error))?;
        read.file = Some(name.to_string());
        Ok(read)
    }

    fn role(&self) -> Result<&str, Failure> {
        self.application_role.as_deref().ok_or_else(|| {
            Failure::new(format!(
                "whose isolation is it? Name the role that the service logs in as: --role, or \
                 application_role in {DEFAULT_FILE}"
            ))
        })
    }

    fn settings(&self) -> Result<ContextSettings, Failure> {
        let default = ContextSettings::default();
        let tenant = self.tenant_setting.as_deref().unwrap_or(default.tenant());
        let user = self.user_setting.as_deref().unwrap_or(default.user());
        let mut settings = ContextSettings::new(tenant, user)?;
        for name in &self.further_settings {
            settings = settings.with(name.as_str())?;
        }
        Ok(settings)
    }

    /// # Errors
    ///
    /// If it is not known for which role, or a setting cannot be one.
    pub(crate) fn installation(&self) -> Result<Installation, Failure> {
        let mut installation = Installation::new(self.role()?).settings(self.settings()?);
        if self.tenant_column.is_some() || self.tenant_type.is_some() {
            let column = self.tenant_column.as_deref().unwrap_or("tenant_id");
            installation = installation.tenant_column(
                column.to_owned(),
                match self.tenant_type {
                    Some(Type::Uuid) => TenantType::Uuid,
                    Some(Type::Bigint) => TenantType::BigInt,
                    Some(Type::Text) | None => TenantType::Text,
                },
            );
        }
        Ok(match self.seal {
            Some(Seal::Sealed) => installation.sealed(),
            Some(Seal::Prepared) => installation.prepare_seal(),
            None => installation,
        })
    }

    /// # Errors
    ///
    /// As [`installation`](Self::installation), and for an allowance that ends on no day.
    pub(crate) fn audit(&self) -> Result<AuditConfig, Failure> {
        let section = &self.audit;
        let mut config = match section.key.is_empty() {
            true => AuditConfig::from(self.installation()?),
            false => {
                let settings = self.settings()?;
                let further = std::iter::once(settings.user())
                    .chain(settings.further().iter().map(String::as_str));
                let config = AuditConfig::new(self.role()?);
                let config = section.key.iter().fold(config, |config, key| {
                    config.tenant_column(&key.column, &key.setting)
                });
                further.fold(config, AuditConfig::setting)
            }
        };
        for role in &section.roles {
            config = config.role(role);
        }
        for table in &section.global_tables {
            config = config.global_table(table);
        }
        if let Some(of) = &section.tenants_table {
            config = config.tenants_table(&of.table, &of.column);
        }
        for (table, column) in &section.tenant_columns {
            config = config.tenant_column_of(table, column);
        }
        for allow in &section.allow {
            let mut allowance = Allowance::new(&allow.rule, &allow.object, &allow.reason);
            if let Some(day) = &allow.until {
                allowance = allowance.until(day)?;
            }
            config = config.allow(allowance);
        }
        Ok(config)
    }
}
