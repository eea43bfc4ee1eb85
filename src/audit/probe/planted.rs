//! Rows of two tenants that are made up, in every table that takes them.

use std::collections::{BTreeMap, BTreeSet};

use super::seed::{Draft, FOREIGN_CANARY, Row, Rows, Seed, pairs, typed};
use crate::audit::catalog::{Catalog, Kind, Relation};
use crate::audit::samples::{self, Context, Settings, Tenants, Whose};
use crate::audit::session::{As, Session};
use crate::audit::subject::{Subject, TenantColumn};
use crate::audit::unseen::Unseen;
use crate::error::Error;
use crate::quote;

/// The rows of a table of tenants that were put into it.
#[derive(Debug)]
pub(super) struct Planted<'a> {
    pub(super) table: &'a Relation,
    pub(super) key: Vec<TenantColumn<'a>>,
    pub(super) tenants: Tenants,
    foreign: Row,
}

/// All that was put into tables.
#[derive(Debug, Default)]
pub(super) struct Ground<'a> {
    pub(super) planted: Vec<Planted<'a>>,
    /// The rows of each tenant, or one for both, of tables that are nobody's as well.
    rows: Rows,
}

/// Puts rows of both tenants into each table of tenants, those first that others refer to. Those that
/// take none are told.
pub(super) async fn plant<'a>(
    session: &mut Session,
    catalog: &'a Catalog,
    subject: &'a Subject,
    unseen: &mut Vec<Unseen>,
) -> Result<Ground<'a>, Error> {
    let mut planted = Vec::new();
    let mut rows = Rows::new();
    for table in order(catalog, subject) {
        let key = subject.key_of(table);
        let is_of_tenants = subject.is_of_tenants(table);
        let tenants = match is_of_tenants {
            true => subject.tenants(table),
            false => None,
        };
        let mut failure = None;
        let mut both = Vec::new();
        for number in 0..2 {
            let forced = match (&tenants, is_of_tenants) {
                (Some(tenants), _) => key_values(&key, tenants, number),
                (None, true) => {
                    failure = Some("its tenant column is of a type that nothing is made up of");
                    break;
                }
                (None, false) => referred(catalog, subject, table, number),
            };
            let settings = match number {
                0 => subject.users().into_iter().next().unwrap_or_default(),
                _ => subject.other_user(),
            };
            let settings = context(&key, tenants.as_ref(), number, settings);
            let seed = Seed {
                catalog,
                table,
                rows: &rows,
                forced: &forced,
            };
            match seed.put(session, number, &settings).await? {
                Some(row) => both.push(row),
                None => {
                    failure = Some("it takes no row that is made up");
                    break;
                }
            }
        }
        // Of what all share there may be one for both.
        if !is_of_tenants && both.len() == 1 {
            both.push(both[0].clone());
        }
        let Ok([own, foreign]) = <[Row; 2]>::try_from(both) else {
            if let Some(why) = failure.filter(|_| is_of_tenants && catalog.is_reachable(table)) {
                unseen.push(Unseen::new(&table.display, why));
            }
            continue;
        };
        rows.insert(table.oid, [own, foreign.clone()]);
        if let Some(tenants) = tenants {
            planted.push(Planted {
                table,
                key,
                tenants,
                foreign,
            });
        }
    }
    for one in &planted {
        one.plant_nobodys(session, catalog, &rows).await?;
    }
    Ok(Ground { planted, rows })
}

/// The tables of tenants and what they refer to, which comes first.
fn order<'a>(catalog: &'a Catalog, subject: &'a Subject) -> Vec<&'a Relation> {
    let mut order: Vec<&Relation> = Vec::new();
    let mut open: Vec<&Relation> = subject.tables(catalog).collect();
    let mut seen = BTreeSet::new();
    open.reverse();
    while let Some(table) = open.pop() {
        let is_first = seen.insert(table.oid);
        let parents = parents(catalog, table);
        let waits: Vec<_> = parents
            .filter(|parent| is_first && !seen.contains(&parent.oid))
            .collect();
        if !waits.is_empty() {
            open.push(table);
            open.extend(waits);
        } else if !order.iter().any(|other| other.oid == table.oid) {
            order.push(table);
        }
    }
    order
}

fn parents<'a>(catalog: &'a Catalog, table: &Relation) -> impl Iterator<Item = &'a Relation> {
    let oid = table.oid;
    catalog
        .foreign_keys
        .iter()
        .filter(move |key| key.relation == oid && key.referenced != oid)
        .filter_map(|key| catalog.relations.get(&key.referenced))
}

/// The columns of the key, as the tenant of this number has them.
fn key_values(key: &[TenantColumn<'_>], tenants: &Tenants, number: usize) -> BTreeMap<i16, String> {
    let tenant = match number {
        0 => tenants.own(),
        _ => tenants.other(),
    };
    let columns = key.iter().zip(tenant);
    columns
        .map(|(of, value)| (of.column.number, typed(of.column, value)))
        .collect()
}

/// What rows of the tenant of this number refer to in a table that is not of tenants: mostly the table
/// of tenants itself.
fn referred(
    catalog: &Catalog,
    subject: &Subject,
    table: &Relation,
    number: usize,
) -> BTreeMap<i16, String> {
    let mut forced = BTreeMap::new();
    let keys = catalog.foreign_keys.iter();
    for foreign_key in keys.filter(|key| key.referenced == table.oid) {
        let child = catalog.relations.get(&foreign_key.relation);
        let Some(child) = child.filter(|child| subject.is_of_tenants(child)) else {
            continue;
        };
        let Some(tenants) = subject.tenants(child) else {
            continue;
        };
        let values = key_values(&subject.key_of(child), &tenants, number);
        for (from, to) in pairs(foreign_key) {
            if let Some(value) = values.get(&from) {
                forced.insert(to, value.clone());
            }
        }
    }
    forced
}

fn context(
    key: &[TenantColumn<'_>],
    tenants: Option<&Tenants>,
    number: usize,
    mut further: Settings,
) -> Settings {
    if let Some(tenants) = tenants {
        let tenant = match number {
            0 => tenants.own(),
            _ => tenants.other(),
        };
        let key = key.iter().zip(tenant);
        further.extend(key.map(|(of, value)| (of.setting.to_owned(), value.clone())));
    }
    further
}

impl Ground<'_> {
    /// A further row for one of the two tenants, which nothing stands in the way of but policies.
    pub(super) fn draft(
        &self,
        planted: &Planted<'_>,
        catalog: &Catalog,
        whose: Whose,
    ) -> Option<Draft> {
        let whose = match whose {
            Whose::Own => 0,
            _ => 1,
        };
        let forced = key_values(&planted.key, &planted.tenants, whose);
        let seed = Seed {
            catalog,
            table: planted.table,
            rows: &self.rows,
            forced: &forced,
        };
        // Texts as they were taken.
        let mut texts = planted.foreign.values.values().flatten();
        let is_generous = texts.any(|text| text.starts_with(FOREIGN_CANARY));
        seed.draft(2 + whose, whose, is_generous)
    }

    /// Where the other tenant's rows are, and how many it has.
    pub(super) fn state(&self) -> String {
        let states = self.planted.iter().map(Planted::state);
        states.collect::<Vec<_>>().join(" || ' ' || ")
    }
}

impl Planted<'_> {
    /// A row of the tenant '', which is what is left of a context, where one can be had.
    async fn plant_nobodys(
        &self,
        session: &mut Session,
        catalog: &Catalog,
        rows: &Rows,
    ) -> Result<(), Error> {
        if !self.tenants.are_texts() || !session.is_above_policies() {
            return Ok(());
        }
        let key = self.key.iter();
        let forced = key
            .map(|of| (of.column.number, typed(of.column, "")))
            .collect();
        let seed = Seed {
            catalog,
            table: self.table,
            rows,
            forced: &forced,
        };
        if let Some(draft) = seed.draft(4, 1, false) {
            let sql = draft.insert(&self.table.display);
            // That it is refused is as it should be.
            let _ = session.keep(As::default(), &sql).await?;
        }
        Ok(())
    }

    /// The same with the other tenant's values in these columns.
    pub(super) fn with_foreign(&self, mut draft: Draft, columns: &[i16]) -> Draft {
        for column in self.table.columns.iter() {
            if columns.contains(&column.number)
                && let Some(Some(value)) = self.foreign.values.get(&column.number)
            {
                draft.set(column, typed(column, value));
            }
        }
        draft
    }

    /// A column of the table, set to a value.
    pub(super) fn changed_to(&self, column: i16, value: &str) -> Option<String> {
        let column = self.table.columns.iter().find(|c| c.number == column)?;
        Some(format!("{} = {}", column.display, typed(column, value)))
    }

    /// The same with a value for a column.
    pub(super) fn refer(&self, mut draft: Draft, column: i16, value: &str) -> Draft {
        if let Some(column) = self.table.columns.iter().find(|c| c.number == column) {
            draft.set(column, typed(column, value));
        }
        draft
    }

    /// What the other tenant's row holds in a column.
    pub(super) fn foreign_value(&self, column: i16) -> Option<&str> {
        self.foreign.values.get(&column)?.as_deref()
    }

    /// That a row is the other tenant's.
    pub(super) fn is_foreign(&self) -> String {
        self.is(self.tenants.other())
    }

    pub(super) fn is_own(&self) -> String {
        self.is(self.tenants.own())
    }

    fn is(&self, tenant: &[String]) -> String {
        let columns = self.key.iter().zip(tenant);
        let comparisons: Vec<_> = columns
            .map(|(of, value)| format!("{} = {}", of.column.display, typed(of.column, value)))
            .collect();
        comparisons.join(" AND ")
    }

    /// The columns of the key, set to the other tenant's.
    pub(super) fn moved(&self) -> String {
        let columns = self.key.iter().zip(self.tenants.other());
        let values: Vec<_> = columns
            .map(|(of, value)| format!("{} = {}", of.column.display, typed(of.column, value)))
            .collect();
        values.join(", ")
    }

    /// A change that means nothing.
    pub(super) fn changed(&self) -> Option<String> {
        let column = self.table.columns.iter().find(|column| {
            let is_key = self.key.iter().any(|of| of.column.number == column.number);
            !is_key && !column.is_counted && !column.is_generated
        })?;
        let value = samples::literal(column, 5, "x")?;
        Some(format!("{} = {value}", column.display))
    }

    /// Where the other tenant's row is.
    pub(super) fn place(&self) -> String {
        let [table, row] = &self.foreign.place;
        format!(
            "tableoid = {table}::oid AND ctid = {}::tid",
            quote::literal(row)
        )
    }

    /// The other tenant's row as a line of COPY, and its columns.
    pub(super) fn line(&self) -> (String, String) {
        let columns = self
            .table
            .columns
            .iter()
            .filter(|column| !column.is_generated);
        let names: Vec<_> = columns
            .clone()
            .map(|column| column.display.as_str())
            .collect();
        let values: Vec<_> = columns
            .map(|column| match self.foreign.values.get(&column.number) {
                Some(Some(value)) => escaped(value),
                _ => "\\N".to_owned(),
            })
            .collect();
        (names.join(", "), values.join("\t") + "\n")
    }

    /// The columns of the key, and the other tenant's as a line of COPY.
    pub(super) fn key_line(&self) -> (String, String) {
        let names: Vec<_> = self
            .key
            .iter()
            .map(|of| of.column.display.as_str())
            .collect();
        let values = self.tenants.other().iter().map(|value| escaped(value));
        (names.join(", "), values.collect::<Vec<_>>().join("\t"))
    }

    pub(super) fn settings(&self, context: Context, further: &[(String, String)]) -> Settings {
        let names: Vec<_> = self.key.iter().map(|of| of.setting).collect();
        self.tenants.settings(context, &names, further)
    }

    /// Whether the other tenant's row is where it was, and how many that tenant has.
    pub(super) fn state(&self) -> String {
        format!(
            "(SELECT count(*) FILTER (WHERE {}) || ' of ' || count(*) FROM {} WHERE {})",
            self.place(),
            self.table.display,
            self.is_foreign()
        )
    }

    /// The context of the other tenant, for who has to have one to see its rows.
    pub(super) fn other_settings(&self, further: Settings) -> Settings {
        context(&self.key, Some(&self.tenants), 1, further)
    }

    pub(super) fn is_partitioned(&self) -> bool {
        self.table.kind == Kind::PartitionedTable
    }
}

/// As COPY has a value.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('\t', "\\t")
        .replace('\n', "\\n")
        .replace('\r', "\\r")
}
