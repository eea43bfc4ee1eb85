//! What is a tenant's, and what is everybody's.

use std::collections::{BTreeMap, BTreeSet};

use super::catalog::{Catalog, Column, Id, Relation};
use super::config::{AuditConfig, KeyColumn};
use super::predicate::{Known, KnownColumn};
use super::samples::{Settings, Tenants, USERS};
use crate::quote;
use crate::sql::own;

/// The configuration, with names resolved.
#[derive(Debug)]
pub(super) struct Subject {
    key: Vec<KeyColumn>,
    further: Vec<String>,
    /// The tenant column of tables where it has another name.
    columns: BTreeMap<Id, String>,
    global: BTreeSet<Id>,
    /// The tables of tenants that this crate itself has made.
    own: BTreeSet<Id>,
    /// What all settings of the context hold for two tenants that are not made up.
    given: Option<[Settings; 2]>,
}

/// The tenant column of a relation, and the setting it is compared with.
#[derive(Clone, Copy, Debug)]
pub(super) struct TenantColumn<'a> {
    pub(super) column: &'a Column,
    pub(super) setting: &'a str,
}

impl Subject {
    /// `columns` and `global` are what the names of the configuration mean.
    pub(super) fn new(
        config: &AuditConfig,
        catalog: &Catalog,
        mut columns: BTreeMap<Id, String>,
        mut global: BTreeSet<Id>,
    ) -> Self {
        let mut ours = BTreeSet::new();
        for relation in catalog.relations.values() {
            let is_own = |names| catalog.is_of_this_crate(relation.schema, &relation.name, names);
            if is_own(&own::TABLES) {
                ours.insert(relation.oid);
                columns.insert(relation.oid, own::COLUMN.to_owned());
            }
            if is_own(&own::GLOBAL) {
                global.insert(relation.oid);
            }
        }
        Self {
            key: config.key(),
            further: config.further_settings.clone(),
            columns,
            global,
            own: ours,
            given: config.contexts.as_ref().map(|contexts| contexts.0.clone()),
        }
    }

    /// The settings that say whose work it is.
    pub(super) fn key_settings(&self) -> impl Iterator<Item = &str> {
        self.key.iter().map(|column| column.setting.as_str())
    }

    /// Whether the configuration names two tenants, so that none are to be made up.
    pub(super) fn names_tenants(&self) -> bool {
        self.given.is_some()
    }

    /// Two tenants for the key of a relation; `None` for a type of column that nothing is made up of.
    pub(super) fn tenants(&self, relation: &Relation) -> Option<Tenants> {
        let key = self.key_of(relation);
        let types: Vec<_> = key
            .iter()
            .map(|of| (&*of.column.base_type, &*of.column.category))
            .collect();
        let given = self.given.as_ref().map(|pair| {
            pair.each_ref()
                .map(|settings| key.iter().map(|of| value(settings, of.setting)).collect())
        });
        Tenants::of(&types, given)
    }

    /// What further settings of the context hold, for one user after the other: whoever it is, nothing
    /// tells a policy.
    pub(super) fn users(&self) -> Vec<Settings> {
        if let Some([own, _]) = &self.given {
            return vec![self.further_of(own)];
        }
        let users = match self.further.is_empty() {
            true => &USERS[..1],
            false => &USERS[..],
        };
        let settings = |user: &&str| {
            let names = self.further.iter();
            names
                .map(|name| (name.clone(), (*user).to_owned()))
                .collect()
        };
        users.iter().map(settings).collect()
    }

    /// The same of the other tenant.
    pub(super) fn other_user(&self) -> Settings {
        match &self.given {
            Some([_, other]) => self.further_of(other),
            None => self.users().into_iter().next().unwrap_or_default(),
        }
    }

    fn further_of(&self, settings: &Settings) -> Settings {
        let names = self.further.iter();
        names
            .map(|name| (name.clone(), value(settings, name).to_owned()))
            .collect()
    }

    pub(super) fn is_global(&self, relation: &Relation) -> bool {
        self.global.contains(&relation.oid)
    }

    /// Whether this crate has made it, and its functions write it: it is not forced by right.
    pub(super) fn is_of_this_crate(&self, relation: &Relation) -> bool {
        self.own.contains(&relation.oid)
    }

    /// The key of whose a row is; empty where the relation does not say. Only the first few columns
    /// of the key may be there.
    pub(super) fn key_of<'a>(&'a self, relation: &'a Relation) -> Vec<TenantColumn<'a>> {
        if let Some(name) = self.columns.get(&relation.oid) {
            let column = relation.column(name);
            let setting = self.key[0].setting.as_str();
            return column
                .map(|column| TenantColumn { column, setting })
                .into_iter()
                .collect();
        }
        self.key
            .iter()
            .map_while(|key| {
                let column = relation.column(&key.name)?;
                let setting = key.setting.as_str();
                Some(TenantColumn { column, setting })
            })
            .collect()
    }

    /// Whether its rows say whose they are.
    pub(super) fn is_of_tenants(&self, relation: &Relation) -> bool {
        !self.is_global(relation) && !self.key_of(relation).is_empty()
    }

    /// That a row is that of the tenant of the context, as a policy says it.
    pub(super) fn comparison(&self, relation: &Relation) -> String {
        let columns = self.key_of(relation);
        let comparisons: Vec<_> = columns
            .iter()
            .map(|of| {
                let cast = match of.column.category.as_str() {
                    "S" => String::new(),
                    _ => format!("::{}", of.column.type_name),
                };
                format!(
                    "{} = (SELECT nullif(pg_catalog.current_setting({}, true), ''){cast})",
                    of.column.display,
                    quote::literal(of.setting),
                )
            })
            .collect();
        comparisons.join(" AND ")
    }

    /// The tables that are judged by whose rows they hold: those of tenants that can be reached, by name
    /// or through a view.
    #[cfg(feature = "testing")]
    pub(super) fn judged(&self, catalog: &Catalog) -> Vec<String> {
        let behind: BTreeSet<_> = catalog
            .own_relations()
            .filter(|view| catalog.is_reachable(view))
            .flat_map(|view| catalog.views.get(&view.oid).into_iter().flatten())
            .collect();
        let tables = self.tables(catalog);
        let mut judged: Vec<_> = tables
            .filter(|table| catalog.is_reachable(table) || behind.contains(&table.oid))
            .map(|table| table.display.clone())
            .collect();
        judged.sort_unstable();
        judged
    }

    /// What its policies are compared with.
    pub(super) fn known<'a>(
        &'a self,
        relation: &'a Relation,
        helpers: &'a BTreeMap<String, String>,
    ) -> Known<'a> {
        let key = self.key_of(relation).into_iter().map(|of| KnownColumn {
            name: &of.column.name,
            setting: of.setting,
            is_text: of.column.category == "S",
        });
        Known {
            key: key.collect(),
            helpers,
        }
    }

    /// The tables of tenants that somebody made.
    pub(super) fn tables<'a>(&'a self, catalog: &'a Catalog) -> impl Iterator<Item = &'a Relation> {
        catalog
            .own_relations()
            .filter(|relation| relation.kind.is_table() && self.is_of_tenants(relation))
    }
}

/// What a setting holds; nothing where it is not said.
fn value<'a>(settings: &'a Settings, name: &str) -> &'a str {
    let found = settings
        .iter()
        .find(|(other, _)| other.eq_ignore_ascii_case(name));
    found.map_or("", |(_, value)| value)
}
