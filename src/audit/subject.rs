//! What is a tenant's, and what is everybody's.

use std::collections::{BTreeMap, BTreeSet};

use super::catalog::{Catalog, Column, Id, Relation};
use super::config::{AuditConfig, KeyColumn};
use super::predicate::{Known, KnownColumn};
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
        for relation in catalog.relations.values() {
            let is_own = |names| catalog.is_of_this_crate(relation.schema, &relation.name, names);
            if is_own(&own::TABLES) {
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
        }
    }

    /// The settings that say whose work it is.
    pub(super) fn key_settings(&self) -> impl Iterator<Item = &str> {
        self.key.iter().map(|column| column.setting.as_str())
    }

    /// Further settings of the context.
    pub(super) fn further(&self) -> &[String] {
        &self.further
    }

    pub(super) fn is_global(&self, relation: &Relation) -> bool {
        self.global.contains(&relation.oid)
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
