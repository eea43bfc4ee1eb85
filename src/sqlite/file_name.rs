//! The name of a tenant's file.
//!
//! No two tenants get names that a file system could take for one, and none gets a name that means
//! something to an operating system:
//!
//! * only lower case: where `Acme` and `acme` are one file, they are still two tenants;
//! * a prefix, so that no tenant is called `con` or `nul`;
//! * a suffix, so that no name ends in a dot, and none is that of another file's `-wal`.

use crate::tenant::TenantId;

const PREFIX: &str = "tenant-";
const SUFFIX: &str = ".sqlite";

/// `_` stands before a letter that is upper case in the id, and before an underscore.
pub(super) fn of(tenant: &TenantId) -> String {
    let mut name = String::from(PREFIX);
    for letter in tenant.as_str().chars() {
        if letter.is_ascii_uppercase() || letter == '_' {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name.push_str(SUFFIX);
    name
}

/// Whose file has this name; `None` for a name that [`of`] does not give.
pub(super) fn tenant_of(name: &str) -> Option<TenantId> {
    let encoded = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let mut id = String::new();
    let mut letters = encoded.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '_' => id.push(letters.next()?.to_ascii_uppercase()),
            letter => id.push(letter),
        }
    }
    let tenant: TenantId = id.parse().ok()?;
    (of(&tenant) == name).then_some(tenant)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id() -> impl Strategy<Value = TenantId> {
        "[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}".prop_map(|id| id.parse().expect("a tenant id"))
    }

    fn name(id: &str) -> String {
        of(&id.parse().expect("a tenant id"))
    }

    #[test]
    fn names_can_be_read() {
        assert_eq!(name("acme"), "tenant-acme.sqlite");
        assert_eq!(name("Acme_1.x"), "tenant-_acme__1.x.sqlite");
        assert_eq!(name("con"), "tenant-con.sqlite");
        assert_eq!(name("nul."), "tenant-nul..sqlite");
        for foreign in [
            "acme.sqlite",
            "tenant-acme.sqlite-wal",
            "tenant-.sqlite",
            "tenant-Acme.sqlite",
            "tenant-a_.sqlite",
            "tenant-a_1.sqlite",
            "tenant-a/b.sqlite",
        ] {
            assert_eq!(tenant_of(foreign), None, "{foreign}");
        }
    }

    proptest! {
        #[test]
        fn names_lead_back_and_hold_nothing_odd(id in id()) {
            let name = of(&id);
            prop_assert_eq!(tenant_of(&name), Some(id));
            prop_assert!(name.len() + "-journal".len() <= 255);
            prop_assert!(name.bytes().all(
                |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b)
            ), "{}", name);
        }

        /// Ids of a few letters, so that many of them are alike.
        #[test]
        fn no_two_tenants_share_a_file(a in "[aA][aA_.]{0,4}", b in "[aA][aA_.]{0,4}") {
            prop_assume!(a != b);
            let (a, b) = (name(&a), name(&b));
            prop_assert!(!a.eq_ignore_ascii_case(&b));
            for sidecar in ["-wal", "-shm", "-journal"] {
                let sidecar = a.clone() + sidecar;
                prop_assert!(!sidecar.eq_ignore_ascii_case(&b));
            }
        }
    }
}
