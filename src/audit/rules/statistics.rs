//! What the planner knows of all rows, and tells whoever may read some.

use std::collections::BTreeSet;

use crate::audit::catalog::{Catalog, Column, ColumnStatistics, Relation};
use crate::audit::finding::Finding;
use crate::audit::rule::Rule;
use crate::audit::severity::Severity::{Info, Low, Medium};
use crate::audit::subject::Subject;
use crate::audit::unseen::Unseen;
use crate::quote;

const PAGE: &str = "statistics";

const COMMON_VALUES: Rule = Rule::new(
    PAGE,
    "statistics-common-values",
    Medium,
    "how many rows EXPLAIN expects tells of the values of others",
);
const PARTITION_SIZES: Rule = Rule::new(
    PAGE,
    "statistics-partition-per-tenant",
    Low,
    "the size of a partition, which everybody can read, is that of a tenant",
);

pub(super) const RULES: &[Rule] = &[COMMON_VALUES, PARTITION_SIZES];

pub(super) fn judge(
    catalog: &Catalog,
    subject: &Subject,
    unseen: &mut Vec<Unseen>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &catalog.statistics {
        Some(statistics) => common_values(catalog, subject, statistics, &mut findings),
        None => unseen.push(Unseen::new(
            "pg_statistic",
            "only a superuser sees which values the planner knows, and EXPLAIN gives away",
        )),
    }
    for (table, partitioning) in &catalog.partitionings {
        let Some(table) = catalog.relations.get(table) else {
            continue;
        };
        let is_cut_by_tenant = subject
            .key_of(table)
            .iter()
            .any(|of| partitioning.columns.contains(&of.column.number));
        let is_of_tenants = subject.is_of_tenants(table) && !table.of_extension;
        if is_of_tenants && is_cut_by_tenant && partitioning.strategy != "h" {
            findings.push(
                Finding::new(
                    PARTITION_SIZES,
                    &table.display,
                    "it is cut by its tenant column, so that the size of a partition and how much is \
                     written to it are those of a few tenants, and pg_class and pg_stat_all_tables show \
                     them to everybody",
                )
                .advise("PARTITION BY HASH puts many tenants into each partition; or allow this"),
            );
        }
    }
    findings
}

fn common_values(
    catalog: &Catalog,
    subject: &Subject,
    statistics: &[ColumnStatistics],
    findings: &mut Vec<Finding>,
) {
    let different: BTreeSet<_> = statistics
        .iter()
        .filter(|of| of.mostly_different)
        .map(|of| (of.relation, of.column))
        .collect();
    let table_of = |relation| {
        catalog
            .relations
            .get(relation)
            .filter(|table| !table.of_extension && subject.is_of_tenants(table))
            .filter(|table| catalog.holds(table, "SELECT"))
    };
    let mut others = BTreeSet::new();
    for of in statistics.iter().filter(|of| of.has_common) {
        let Some(table) = table_of(&of.relation) else {
            continue;
        };
        match written(subject, table, of.column).filter(|_| of.mostly_different) {
            Some(column) => findings.push(of_column(catalog, table, column)),
            None => {
                others.insert(of.relation);
            }
        }
    }
    for of in &catalog.extended_statistics {
        let Some(table) = table_of(&of.relation) else {
            continue;
        };
        let is_written = of.columns.iter().any(|number| {
            written(subject, table, *number).is_some()
                && different.contains(&(of.relation, *number))
        });
        if !is_written {
            others.insert(of.relation);
            continue;
        }
        let why = format!(
            "it holds combinations of values of {} that are common among the rows of all tenants, and \
             EXPLAIN shows how common",
            table.display
        );
        findings.push(
            Finding::new(COMMON_VALUES, &of.display, why)
                .mend(format!("DROP STATISTICS {};", of.display)),
        );
    }
    if !others.is_empty() {
        let why = format!(
            "what the planner knows of {} tables of tenants is of the rows of all of them: how many rows \
             EXPLAIN expects tells how common a value is",
            others.len()
        );
        findings.push(Finding::new(COMMON_VALUES, "pg_statistic", why).severity_of(Info));
    }
}

/// A column of a text that somebody writes, whose values the planner may look up below policies: its
/// comparison is leakproof.
fn written<'a>(subject: &Subject, table: &'a Relation, number: i16) -> Option<&'a Column> {
    let column = table
        .columns
        .iter()
        .find(|column| column.number == number)?;
    let is_key = subject
        .key_of(table)
        .iter()
        .any(|of| of.column.number == number);
    let is_text = matches!(
        &*column.base_type,
        "text" | "varchar" | "bpchar" | "name" | "bytea"
    );
    (is_text && !is_key).then_some(column)
}

fn of_column(catalog: &Catalog, table: &Relation, column: &Column) -> Finding {
    let finding = Finding::new(
        COMMON_VALUES,
        format!("{}.{}", table.display, column.display),
        "most of its values are different and some are common: whoever guesses one of these sees in \
         EXPLAIN that it is there, and how often, whosever rows they are",
    )
    .mend(format!(
        "ALTER TABLE {} ALTER {} SET STATISTICS 0;",
        table.display, column.display
    ));
    // ANALYZE passes the column over from then on, and leaves what it knew.
    let schema = catalog.schemas.get(&table.schema);
    let forget = match (schema, catalog.version >= 180_000) {
        (Some(schema), true) => format!(
            "SELECT pg_catalog.pg_clear_attribute_stats({}, {}, {}, inherited) FROM (VALUES (false), (true)) AS of (inherited);",
            quote::literal(&schema.name),
            quote::literal(&table.name),
            quote::literal(&column.name)
        ),
        _ => format!(
            "DELETE FROM pg_catalog.pg_statistic WHERE starelid = {}::pg_catalog.regclass AND staattnum = {};",
            quote::literal(&table.display),
            column.number
        ),
    };
    finding.mend(forget).advise(
        "it costs plans: for a comparison with this column the planner then expects one row in 200. \
         If what it holds is no secret, allow this",
    )
}
