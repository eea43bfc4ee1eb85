//! Members of an organisation, and what their roles let them do.

use serde::{Deserialize, Serialize};
use tenantry::{Error, Reader, RoleAdmin, TenantScope};
use utoipa::ToSchema;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, sqlx::FromRow, ToSchema)]
pub struct Member {
    pub user: String,
    pub roles: Vec<String>,
}

pub async fn list(mut reader: Reader<'_>) -> Result<Vec<Member>, Error> {
    Ok(sqlx::query_as(LIST).fetch_all(&mut reader).await?)
}

const LIST: &str = "SELECT m.user_id AS \"user\", \
      array_remove(array_agg(r.role ORDER BY r.role), NULL) AS roles \
    FROM tenantry.members AS m LEFT JOIN tenantry.member_roles AS r ON r.user_id = m.user_id \
    GROUP BY m.user_id ORDER BY m.user_id";

/// The roles of a new organisation, and a member who has each. Those that are there stay as they
/// are.
pub async fn found(organisation: &TenantScope) -> Result<(), Error> {
    let mut tx = organisation.begin().await?;
    let mut roles = RoleAdmin::new(&mut tx);
    for (role, grants, denies) in ROLES {
        if roles.create(role).await? {
            for pattern in grants {
                roles.grant(role, &pattern.parse()?).await?;
            }
            for pattern in denies {
                roles.deny(role, &pattern.parse()?).await?;
            }
            roles.add_member(role).await?;
            roles.assign(role, role).await?;
        }
    }
    tx.commit().await?;
    Ok(())
}

/// Role, what it grants, what it denies whatever else grants it.
const ROLES: [(&str, &[&str], &[&str]); 3] = [
    ("partner", &["*:*"], &[]),
    (
        "bookkeeper",
        &["*:view", "invoices:*", "payments:*"],
        &["members:*", "cases:delete"],
    ),
    ("clerk", &["cases:view", "cases:create", "cases:edit"], &[]),
];
