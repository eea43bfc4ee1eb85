//! The column that says whose a row is.

use std::borrow::Cow;

use crate::error::Error;
use crate::quote;
use crate::settings::ContextSettings;

/// The type of the tenant column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TenantType {
    /// `uuid`.
    Uuid,
    /// `bigint`; a column that is `integer` already will do.
    BigInt,
    /// `text`; a column that is `varchar` already will do.
    Text,
}

impl TenantType {
    /// The type of a new column.
    pub(crate) fn sql(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::BigInt => "bigint",
            Self::Text => "text",
        }
    }

    /// The types of an existing column that compare with the context as this one does. `char(n)`
    /// and `citext` do not: they take different tenants for the same.
    fn accepted(self) -> &'static str {
        match self {
            Self::Uuid => "'{uuid}'",
            Self::BigInt => "'{bigint,integer}'",
            Self::Text => "'{text,varchar}'",
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct TenantColumn {
    pub(super) name: Cow<'static, str>,
    pub(super) kind: TenantType,
}

impl TenantColumn {
    pub(super) fn check(&self) -> Result<(), Error> {
        quote::check_name(&self.name)
    }

    /// What plpgsql needs to know of the column, with the tenant of the context as an expression.
    ///
    /// After a transaction that set a custom setting locally the setting is '' and not NULL, hence
    /// the `nullif`: no context must compare as unknown, never as the tenant ''.
    pub(super) fn declarations(&self, settings: &ContextSettings) -> String {
        let setting = quote::literal(settings.tenant());
        let cast = match self.kind {
            TenantType::Text => String::new(),
            kind => format!("::{}", kind.sql()),
        };
        let context = format!("nullif(pg_catalog.current_setting({setting}, true), ''){cast}");
        format!(
            "  tenant_column constant text := {};
  tenant_type constant text := '{}';
  tenant_types constant regtype[] := {};
  tenant constant text := {};
",
            quote::literal(&self.name),
            self.kind.sql(),
            self.kind.accepted(),
            quote::literal(&context),
        )
    }
}
