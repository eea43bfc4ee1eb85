//! The type of the argument that carries the context of a statement.
//!
//! An argument is an array: its layout number, the tenant, the user, and a value for each further
//! setting. PostgreSQL tests the CHECKs of a domain in the order of their names, which is why
//! these have a number in theirs: an argument that this database cannot read must not be taken
//! apart, and one of another tenant must not set anything.
//!
//! Of a database with a seal there is another layout, see [`super::seal`].

use std::fmt::Write as _;

use super::seal::{self, SEALED_LAYOUT, SIGNATURE, Seal};
use crate::quote;
use crate::settings::ContextSettings;
use crate::tenant::TenantId;

/// The layout that this release sends.
pub(crate) const LAYOUT: i32 = 1;

/// The oldest layout that a database installed by this release takes. A release that changes the
/// layout takes the one before as well, so that a deployment can roll.
pub(crate) const OLDEST_LAYOUT: i32 = 1;

/// The plpgsql that makes the domain's CHECKs what they should be.
///
/// The domain is only ever altered: open connections hold its OID. The CHECKs are always made
/// anew, because their stored form cannot be compared with text; nobody sees a moment without
/// them, for it happens in one transaction.
pub(super) fn checks(
    settings: &ContextSettings,
    tenant: Option<&TenantId>,
    layouts: std::ops::RangeInclusive<i32>,
    seal: Seal,
) -> String {
    let layouts = layouts
        .map(|layout| format!("'{layout}'"))
        .collect::<Vec<_>>()
        .join(", ");
    let most = 3 + settings.further().len();
    let plain = format!("VALUE[1] IN ({layouts}) AND cardinality(VALUE) BETWEEN 3 AND {most}");
    let signed = format!(
        "VALUE[1] = '{SEALED_LAYOUT}' AND cardinality(VALUE) BETWEEN {} AND {}",
        3 + SIGNATURE,
        most + SIGNATURE,
    );
    let readable = match seal {
        Seal::None => plain,
        Seal::Prepared => format!("({plain} OR {signed})"),
        Seal::Sealed => signed,
    };
    let mut out = format!(
        "  ALTER DOMAIN tenantry.scope SET NOT NULL;
  ALTER DOMAIN tenantry.scope DROP CONSTRAINT IF EXISTS tenantry_1_layout;
  ALTER DOMAIN tenantry.scope ADD CONSTRAINT tenantry_1_layout CHECK (
    array_ndims(VALUE) = 1 AND array_lower(VALUE, 1) = 1
    AND {readable} AND VALUE[2] <> '' AND array_position(VALUE, NULL) IS NULL);
  ALTER DOMAIN tenantry.scope DROP CONSTRAINT IF EXISTS tenantry_2_tenant;
"
    );
    if let Some(tenant) = tenant {
        let tenant = quote::literal(tenant.as_str());
        let _ = writeln!(
            out,
            "  ALTER DOMAIN tenantry.scope ADD CONSTRAINT tenantry_2_tenant CHECK (
    VALUE[2] = {tenant} COLLATE pg_catalog.\"C\");"
        );
    }
    let mut context = format!(
        "set_config({}, VALUE[2], true) IS NOT NULL\n    AND set_config({}, VALUE[3], true) IS NOT NULL",
        quote::literal(settings.tenant()),
        quote::literal(settings.user()),
    );
    let values = match seal {
        Seal::None => "VALUE".to_owned(),
        Seal::Prepared => format!(
            "(CASE VALUE[1] WHEN '{SEALED_LAYOUT}' THEN VALUE[:cardinality(VALUE) - {SIGNATURE}] ELSE VALUE END)"
        ),
        Seal::Sealed => format!("(VALUE[:cardinality(VALUE) - {SIGNATURE}])"),
    };
    for (i, name) in settings.further().iter().enumerate() {
        // A process that started before the setting was added sends a shorter array. It must not
        // leave a value standing that another statement of the transaction has set.
        let _ = write!(
            context,
            "\n    AND set_config({}, coalesce({values}[{}], ''), true) IS NOT NULL",
            quote::literal(name),
            4 + i,
        );
    }
    let _ = writeln!(
        out,
        "  ALTER DOMAIN tenantry.scope DROP CONSTRAINT IF EXISTS tenantry_3_context;
  ALTER DOMAIN tenantry.scope ADD CONSTRAINT tenantry_3_context CHECK (
    {context});
  ALTER DOMAIN tenantry.scope DROP CONSTRAINT IF EXISTS tenantry_4_seal;"
    );
    let check = match seal {
        Seal::None => return out,
        Seal::Prepared => format!("VALUE[1] <> '{SEALED_LAYOUT}' OR {}", seal::check()),
        Seal::Sealed => seal::check(),
    };
    let _ = writeln!(
        out,
        "  ALTER DOMAIN tenantry.scope ADD CONSTRAINT tenantry_4_seal CHECK (
    {check});"
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_before_can_be_taken_too() {
        let checks = checks(&ContextSettings::default(), None, 1..=2, Seal::None);
        assert!(checks.contains("VALUE[1] IN ('1', '2')"), "{checks}");
    }

    #[test]
    fn each_further_setting_has_a_place_of_its_own() -> Result<(), crate::Error> {
        let settings = ContextSettings::default()
            .with("app.role")?
            .with("app.request")?;
        let checks = checks(&settings, None, 1..=1, Seal::None);
        assert!(checks.contains("BETWEEN 3 AND 5"), "{checks}");
        assert!(
            checks.contains("set_config('app.role', coalesce(VALUE[4], ''), true)"),
            "{checks}"
        );
        assert!(
            checks.contains("set_config('app.request', coalesce(VALUE[5], ''), true)"),
            "{checks}"
        );
        Ok(())
    }
}
