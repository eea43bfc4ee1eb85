//! The column that says whose a row is.

use std::borrow::Cow;

use super::seal::{self, Seal};
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

    /// What makes a value of this type of the context's text.
    pub(super) fn conversion(self) -> &'static str {
        match self {
            Self::Uuid => "::uuid",
            Self::BigInt => "::bigint",
            Self::Text => "",
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
    ///
    /// The default of the column reads the setting at any level. It only proposes, the policy decides,
    /// and verifying a seal for each row of a large INSERT would take longer than the row.
    pub(super) fn declarations(&self, settings: &ContextSettings, seal: Seal) -> String {
        let conversion = self.kind.conversion();
        let context = format!("{}{conversion}", seal::context(settings, seal));
        let proposal = format!("{}{conversion}", seal::plain_context(settings));
        format!(
            "  tenant_column constant text := {};
  tenant_type constant text := '{}';
  tenant_types constant regtype[] := {};
  tenant constant text := {};
  proposal constant text := {};
",
            quote::literal(&self.name),
            self.kind.sql(),
            self.kind.accepted(),
            quote::literal(&context),
            quote::literal(&proposal),
        )
    }
}
