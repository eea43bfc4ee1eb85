//! What the catalog says, read once; rules are asked of this and not of the server.

mod functions;
mod id;
mod indexes;
mod keys;
mod policies;
mod publications;
mod reach;
mod relations;
mod rewrites;
mod roles;
mod server;
mod statistics;
mod tenantry;
mod triggers;

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::config::AuditConfig;
use crate::error::Error;
use crate::sql::own;

pub(super) use functions::{Caller, Function};
pub(super) use id::Id;
pub(super) use indexes::Index;
pub(super) use keys::{ForeignKey, Unique};
pub(super) use policies::{Command, Helper, Policy};
pub(super) use publications::Publication;
pub(super) use reach::Reach;
pub(super) use relations::{Column, DefaultPrivilege, Grant, Kind, Relation, Schema};
pub(super) use rewrites::Rewrite;
pub(super) use roles::{Database, Membership, Role};
pub(super) use server::{ExtensionView, LargeObjects, ParameterPrivilege, ServerFunction};
pub(super) use statistics::{ColumnStatistics, ExtendedStatistics, Partitioning};
pub(super) use triggers::{EventTrigger, Trigger};

pub(super) use tenantry::{DatabaseOf, reference_tables};

/// All that rules ask about.
#[derive(Debug)]
pub(super) struct Catalog {
    /// `server_version_num`: 150018 for 15.18.
    pub(super) version: u32,
    pub(super) database: Database,
    pub(super) roles: BTreeMap<Id, Role>,
    pub(super) memberships: Vec<Membership>,
    /// What the roles that tenants are served as can become.
    pub(super) reach: Reach,
    pub(super) schemas: BTreeMap<Id, Schema>,
    pub(super) relations: BTreeMap<Id, Relation>,
    pub(super) default_privileges: Vec<DefaultPrivilege>,
    pub(super) policies: BTreeMap<Id, Vec<Policy>>,
    pub(super) helpers: Vec<Helper>,
    pub(super) uniques: Vec<Unique>,
    pub(super) foreign_keys: Vec<ForeignKey>,
    pub(super) functions: Vec<Function>,
    pub(super) triggers: Vec<Trigger>,
    pub(super) event_triggers: Vec<EventTrigger>,
    pub(super) publications: Vec<Publication>,
    /// `None` if the auditor's role may not see them.
    pub(super) statistics: Option<Vec<ColumnStatistics>>,
    pub(super) extended_statistics: Vec<ExtendedStatistics>,
    pub(super) partitionings: BTreeMap<Id, Partitioning>,
    pub(super) indexes: Vec<Index>,
    /// What each view reads.
    pub(super) views: BTreeMap<Id, Vec<Id>>,
    pub(super) definitions: BTreeMap<Id, String>,
    pub(super) rewrites: Vec<Rewrite>,
    pub(super) server_functions: Vec<ServerFunction>,
    pub(super) large_objects: Vec<LargeObjects>,
    pub(super) parameter_privileges: Vec<ParameterPrivilege>,
    pub(super) extension_views: Vec<ExtensionView>,
    pub(super) whose: DatabaseOf,
    /// The domains of this crate's schema, with their owners.
    pub(super) domains: Vec<(String, Id)>,
}

impl Catalog {
    pub(super) async fn read(
        connection: &mut PgConnection,
        config: &AuditConfig,
    ) -> Result<Self, Error> {
        let database = roles::database(connection).await?;
        let roles = roles::roles(connection).await?;
        let memberships = roles::memberships(connection).await?;
        let reach = Reach::of(&config.roles, &roles, &memberships, &database)?;
        let schemas = relations::schemas(connection).await?;
        let mut relations = relations::relations(connection).await?;
        for column in relations::columns(connection).await? {
            if let Some(relation) = relations.get_mut(&column.relation) {
                relation.columns.push(column);
            }
        }
        for (relation, check) in relations::checks(connection).await? {
            if let Some(relation) = relations.get_mut(&relation) {
                relation.checks.push(check);
            }
        }
        Ok(Self {
            version: database.version,
            default_privileges: relations::default_privileges(connection).await?,
            policies: policies::policies(connection).await?,
            helpers: policies::helpers(connection).await?,
            uniques: keys::uniques(connection).await?,
            foreign_keys: keys::foreign_keys(connection).await?,
            functions: functions::functions(connection).await?,
            triggers: triggers::triggers(connection).await?,
            event_triggers: triggers::event_triggers(connection).await?,
            publications: publications::publications(connection).await?,
            statistics: statistics::columns(connection).await?,
            extended_statistics: statistics::extended(connection).await?,
            partitionings: statistics::partitionings(connection).await?,
            indexes: indexes::indexes(connection).await?,
            views: rewrites::views(connection).await?,
            definitions: rewrites::definitions(connection).await?,
            rewrites: rewrites::rewrites(connection).await?,
            server_functions: server::functions(connection).await?,
            large_objects: server::large_objects(connection).await?,
            parameter_privileges: server::parameter_privileges(connection, database.version)
                .await?,
            extension_views: server::extension_views(connection).await?,
            whose: tenantry::database_of(connection).await?,
            domains: tenantry::domains(connection).await?,
            database,
            roles,
            memberships,
            reach,
            schemas,
            relations,
        })
    }

    /// Quoted where SQL needs it.
    pub(super) fn role_display(&self, oid: Id) -> String {
        match self.roles.get(&oid) {
            Some(role) => role.display.clone(),
            None if oid == Id::PUBLIC => "PUBLIC".to_owned(),
            // A grant can outlive its role in no database, but roles are read a moment later.
            None => oid.0.0.to_string(),
        }
    }

    /// All to whom something can be granted that those who serve tenants have then.
    pub(super) fn grantees(&self) -> Vec<Id> {
        self.reach.roles().chain([Id::PUBLIC]).collect()
    }

    /// Whether everybody may use the names in a schema.
    pub(super) fn schema_is_public(&self, schema: Id) -> bool {
        self.schemas.get(&schema).is_some_and(|schema| {
            let public = |grant: &Grant| grant.grantee == Id::PUBLIC && grant.privilege == "USAGE";
            schema.grants.iter().any(public)
        })
    }

    /// Whether what is granted to `grantee` is granted to those who serve tenants.
    pub(super) fn is_ours(&self, grantee: Id) -> bool {
        grantee == Id::PUBLIC || self.reach.contains(grantee)
    }

    /// A role, and all whose privileges it has without becoming them.
    pub(super) fn inherited(&self, role: Id) -> Vec<Id> {
        let mut all = vec![role];
        let mut next = 0;
        while let Some(member) = all.get(next).copied() {
            next += 1;
            for membership in &self.memberships {
                let inherits = membership.member == member && membership.inherits;
                if inherits && !all.contains(&membership.role) {
                    all.push(membership.role);
                }
            }
        }
        all
    }

    /// Whether a policy is for this role: it is for it by name, or for one whose privileges it has.
    pub(super) fn applies(&self, policy: &Policy, role: Id) -> bool {
        policy.roles.contains(&Id::PUBLIC)
            || policy.roles.contains(&role)
            || self
                .inherited(role)
                .iter()
                .any(|role| policy.roles.contains(role))
    }

    /// Whether the policies of a table do not hold for this role: it is above them all, or has the
    /// privileges of the owner, for whom they are not forced.
    pub(super) fn is_exempt(&self, role: Id, table: &Relation) -> bool {
        self.is_above_policies(role) || !table.forced && self.inherited(role).contains(&table.owner)
    }

    /// Whether a role has a privilege on a relation, by itself and not by becoming another.
    pub(super) fn has(&self, role: Id, relation: &Relation, privilege: &str) -> bool {
        let inherited = self.inherited(role);
        let is_everything = match privilege {
            "SELECT" => "pg_read_all_data",
            _ => "pg_write_all_data",
        };
        self.is_superuser(role)
            || relation.grants.iter().any(|grant| {
                grant.privilege == privilege
                    && (grant.grantee == Id::PUBLIC || inherited.contains(&grant.grantee))
            })
            || inherited
                .iter()
                .filter_map(|role| self.roles.get(role))
                .any(|role| role.name == is_everything)
    }

    fn is_superuser(&self, role: Id) -> bool {
        self.roles.get(&role).is_some_and(|role| role.superuser)
    }

    /// Whether policies do not hold for this role, whatever the table.
    pub(super) fn is_above_policies(&self, role: Id) -> bool {
        self.roles
            .get(&role)
            .is_some_and(|role| role.superuser || role.bypass_rls)
    }

    /// Whether those who serve tenants may use the names in a schema.
    pub(super) fn may_use(&self, schema: Id) -> bool {
        self.schemas.get(&schema).is_some_and(|schema| {
            schema
                .grants
                .iter()
                .any(|grant| grant.privilege == "USAGE" && self.is_ours(grant.grantee))
        })
    }

    /// What those who serve tenants may do with a relation, from wherever they have it.
    pub(super) fn held<'a>(&'a self, relation: &'a Relation) -> impl Iterator<Item = &'a Grant> {
        let visible = self.may_use(relation.schema);
        relation
            .grants
            .iter()
            .filter(move |grant| visible && self.is_ours(grant.grantee))
    }

    pub(super) fn holds(&self, relation: &Relation, privilege: &str) -> bool {
        self.held(relation)
            .any(|grant| grant.privilege == privilege)
            || match privilege {
                "SELECT" => self.reach.has_named(self, "pg_read_all_data"),
                "INSERT" | "UPDATE" | "DELETE" => self.reach.has_named(self, "pg_write_all_data"),
                _ => false,
            }
    }

    /// Whether rows can be made, changed or removed.
    pub(super) fn is_writable(&self, relation: &Relation) -> bool {
        ["INSERT", "UPDATE", "DELETE"]
            .into_iter()
            .any(|privilege| self.holds(relation, privilege))
    }

    /// Whether rows can be read or written at all.
    pub(super) fn is_reachable(&self, relation: &Relation) -> bool {
        self.holds(relation, "SELECT") || self.is_writable(relation)
    }

    pub(super) fn may_create_in(&self, schema: &Schema) -> bool {
        schema
            .grants
            .iter()
            .any(|grant| grant.privilege == "CREATE" && self.is_ours(grant.grantee))
    }

    pub(super) fn may_make_temporary_tables(&self) -> bool {
        self.database
            .grants
            .iter()
            .any(|grant| grant.privilege == "TEMPORARY" && self.is_ours(grant.grantee))
    }

    /// Whether that is the schema of this crate, and the name one of these.
    pub(super) fn is_of_this_crate(&self, schema: Id, name: &str, names: &[&str]) -> bool {
        let is_there = |schema: &Schema| schema.name == own::SCHEMA;
        self.schemas.get(&schema).is_some_and(is_there) && names.contains(&name)
    }

    /// The relations that are somebody's own: neither the server's nor an extension's.
    pub(super) fn own_relations(&self) -> impl Iterator<Item = &Relation> {
        self.relations
            .values()
            .filter(|relation| !relation.of_extension)
    }

    /// Who could own what those who serve tenants should not: the owner of most tables that is none
    /// of them and no superuser. Quoted where SQL needs it.
    pub(super) fn owner_instead(&self) -> Option<&str> {
        let mut counts: BTreeMap<Id, usize> = BTreeMap::new();
        let schemas = self.schemas.values().map(|schema| schema.owner);
        let owners = self.own_relations().map(|relation| relation.owner);
        for owner in schemas
            .chain(owners)
            .filter(|owner| !self.reach.contains(*owner))
        {
            *counts.entry(owner).or_default() += 1;
        }
        let of = |owner: &Id| self.roles.get(owner);
        counts
            .iter()
            .filter(|(owner, _)| of(owner).is_some_and(|r| !r.superuser && !r.bypass_rls))
            .max_by_key(|(_, count)| **count)
            .and_then(|(owner, _)| of(owner))
            .map(|role| role.display.as_str())
    }
}
