//! As whom it is tried.

use crate::audit::catalog::{Catalog, Role};
use crate::audit::session::{As, Session};
use crate::audit::unseen::Unseen;
use crate::error::{Error, ErrorKind};

/// A role that tenants are served as, and what it became if it did.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking<'a> {
    role: &'a Role,
    then: Option<&'a Role>,
}

/// Every role that tenants are served as, and what each can become.
pub(super) async fn all<'a>(
    session: &mut Session,
    catalog: &'a Catalog,
    unseen: &mut Vec<Unseen>,
) -> Result<Vec<Asking<'a>>, Error> {
    let mut all = Vec::new();
    for role in catalog
        .reach
        .own()
        .filter_map(|oid| catalog.roles.get(&oid))
    {
        let itself = Asking { role, then: None };
        if !session.can_be(itself.with(&[])).await? {
            return Err(Error::new(
                ErrorKind::Installation,
                "the role of the pool may not become the application role: use the pool of a \
                 superuser, or of the application role itself",
            ));
        }
        all.push(itself);
        let further = catalog.reach.roles().filter(|oid| *oid != role.oid);
        for then in further.filter_map(|oid| catalog.roles.get(&oid)) {
            if !session.speaks_for(&role.name) {
                unseen.push(Unseen::new(
                    &then.display,
                    "only the pool of a superuser, or of the application role itself, is told what that \
                     one can become",
                ));
                continue;
            }
            let other = Asking {
                role,
                then: Some(then),
            };
            if session.can_be(other.with(&[])).await? {
                all.push(other);
            }
        }
    }
    Ok(all)
}

impl<'a> Asking<'a> {
    /// In the context of these settings.
    pub(super) fn with<'s>(self, settings: &'s [(String, String)]) -> As<'s>
    where
        'a: 's,
    {
        As {
            role: Some(&self.role.name),
            then: self.then.map(|role| role.name.as_str()),
            settings,
            ..As::default()
        }
    }

    /// Who serves tenants.
    pub(super) fn role(self) -> &'a Role {
        self.role
    }

    /// Whether no policy holds.
    pub(super) fn is_above_policies(self) -> bool {
        let role = self.then.unwrap_or(self.role);
        role.superuser || role.bypass_rls
    }

    pub(super) fn words(self) -> String {
        match self.then {
            None => format!("as {}", self.role.display),
            Some(then) => format!("as {} that has become {}", self.role.display, then.display),
        }
    }
}
