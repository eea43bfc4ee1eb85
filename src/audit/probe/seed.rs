//! A row to be: what it takes for a table to take it.

use std::collections::BTreeMap;

use crate::audit::catalog::{Catalog, Column, ForeignKey, Id, Relation};
use crate::audit::samples;
use crate::audit::session::{As, Session};
use crate::error::Error;
use crate::quote;

/// What texts begin with in rows that were made up, by whose they are.
const CANARIES: [&str; 2] = ["audit_own_row_", "audit_foreign_row_"];

/// What a value contains that was made up.
pub(super) const CANARY: &str = "audit_%_row_";
pub(super) const FOREIGN_CANARY: &str = CANARIES[1];

/// A row that is in a table.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// Its `tableoid` and `ctid`.
    pub(super) place: [String; 2],
    /// Its columns as texts, by their numbers.
    pub(super) values: BTreeMap<i16, Option<String>>,
}

/// A row to be, as SQL: columns, and values.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    columns: Vec<String>,
    values: Vec<String>,
}

/// By their tables: a row of each tenant, or one for both of what is nobody's.
pub(super) type Rows = BTreeMap<Id, [Row; 2]>;

/// What a row is made of.
pub(super) struct Seed<'s> {
    pub(super) catalog: &'s Catalog,
    pub(super) table: &'s Relation,
    pub(super) rows: &'s Rows,
    /// Values that columns have whatever else there is.
    pub(super) forced: &'s BTreeMap<i16, String>,
}

impl Seed<'_> {
    /// Puts it in, with as much in it as can be told again, or else with what has to be.
    pub(super) async fn put(
        &self,
        session: &mut Session,
        number: usize,
        settings: &[(String, String)],
    ) -> Result<Option<Row>, Error> {
        // Where policies hold for the pool's role the context comes first. Where they do not, a
        // context that was never set is one to try things in.
        let contexts: &[&[(String, String)]] = match session.is_above_policies() {
            true => &[&[], settings],
            false => &[settings],
        };
        for settings in contexts {
            for is_generous in [true, false] {
                let Some(draft) = self.draft(number, number, is_generous) else {
                    return Ok(None);
                };
                let sql = self.returning(&draft);
                let who = As {
                    settings,
                    ..As::default()
                };
                if let Ok(rows) = session.keep(who, &sql).await? {
                    return Ok(rows.into_iter().next().and_then(|row| self.row(row)));
                }
            }
        }
        Ok(None)
    }

    /// Each `number` has other values where keys may ask for that; what it refers to is of the tenant
    /// `whose`.
    pub(super) fn draft(&self, number: usize, whose: usize, is_generous: bool) -> Option<Draft> {
        let mut values = BTreeMap::new();
        let keys = self.catalog.foreign_keys.iter();
        for foreign_key in keys.filter(|key| key.relation == self.table.oid) {
            let Some(referenced) = self.rows.get(&foreign_key.referenced) else {
                continue;
            };
            for (from, to) in pairs(foreign_key) {
                let column = self.table.columns.iter().find(|c| c.number == from);
                let value = referenced[whose].values.get(&to).cloned().flatten();
                if let (Some(column), Some(value)) = (column, value) {
                    values.insert(from, typed(column, &value));
                }
            }
        }
        values.extend(
            self.forced
                .iter()
                .map(|(column, value)| (*column, value.clone())),
        );
        let mut draft = Draft::default();
        for column in self
            .table
            .columns
            .iter()
            .filter(|column| !column.is_generated)
        {
            let is_needed = column.is_counted || column.not_null && !column.has_default;
            let is_told = is_generous && column.category == "S" && !column.has_default;
            let value = match values.get(&column.number) {
                Some(value) => Some(value.clone()),
                None if is_needed || is_told => {
                    let text = match is_generous {
                        true => CANARIES[whose],
                        false => "x",
                    };
                    let value = samples::literal(column, number, text);
                    if value.is_none() && is_needed {
                        return None;
                    }
                    value
                }
                None => None,
            };
            if let Some(value) = value {
                draft.columns.push(column.display.clone());
                draft.values.push(value);
            }
        }
        Some(draft)
    }

    fn returning(&self, draft: &Draft) -> String {
        let columns: Vec<_> = self
            .table
            .columns
            .iter()
            .map(|column| format!("tenantry_row.{}::text", column.display))
            .collect();
        format!(
            "{} RETURNING tenantry_row.tableoid::text, tenantry_row.ctid::text, {}",
            draft.insert(&format!("{} AS tenantry_row", self.table.display)),
            columns.join(", ")
        )
    }

    fn row(&self, texts: Vec<Option<String>>) -> Option<Row> {
        let mut texts = texts.into_iter();
        let place = [texts.next()??, texts.next()??];
        let numbers = self.table.columns.iter().map(|column| column.number);
        Some(Row {
            place,
            values: numbers.zip(texts).collect(),
        })
    }
}

impl Draft {
    pub(super) fn insert(&self, into: &str) -> String {
        format!(
            "INSERT INTO {into} ({}) OVERRIDING SYSTEM VALUE VALUES ({})",
            self.columns.join(", "),
            self.values.join(", ")
        )
    }

    /// The same with another value for a column.
    pub(super) fn set(&mut self, column: &Column, value: String) {
        match self.columns.iter().position(|name| *name == column.display) {
            Some(number) => self.values[number] = value,
            None => {
                self.columns.push(column.display.clone());
                self.values.push(value);
            }
        }
    }

    /// What of it the columns of these names take.
    pub(super) fn only(mut self, names: &[&str]) -> Self {
        let kept = self
            .columns
            .iter()
            .map(|name| names.contains(&name.as_str()));
        let kept: Vec<_> = kept.collect();
        let mut keep = kept.iter();
        self.columns.retain(|_| keep.next() == Some(&true));
        let mut keep = kept.iter();
        self.values.retain(|_| keep.next() == Some(&true));
        self
    }

    pub(super) fn columns(&self) -> String {
        self.columns.join(", ")
    }

    pub(super) fn values(&self) -> String {
        self.values.join(", ")
    }
}

/// The columns of a foreign key, each with what it refers to.
pub(super) fn pairs(key: &ForeignKey) -> impl Iterator<Item = (i16, i16)> {
    let columns = key.columns.iter().copied();
    columns.zip(key.referenced_columns.iter().copied())
}

/// A value of a column, as SQL.
pub(super) fn typed(column: &Column, value: &str) -> String {
    format!("{}::{}", quote::literal(value), column.type_name)
}
