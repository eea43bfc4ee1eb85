//! What the planner knows of rows, and how tables are cut.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::id::Id;
use crate::error::Error;

/// What is known of the values of a column of a table that has row-level security.
#[derive(Clone, Copy, Debug, sqlx::FromRow)]
pub(in crate::audit) struct ColumnStatistics {
    pub(in crate::audit) relation: Id,
    pub(in crate::audit) column: i16,
    /// Whether values that are common are known, with how common they are.
    pub(in crate::audit) has_common: bool,
    /// Whether so many values are different that there are more, the more rows there are: a text that
    /// somebody writes, and no list of states.
    pub(in crate::audit) mostly_different: bool,
}

/// Combinations of values that are common: `CREATE STATISTICS .. (mcv)`.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(in crate::audit) struct ExtendedStatistics {
    pub(in crate::audit) relation: Id,
    /// With its schema, quoted where SQL needs it.
    pub(in crate::audit) display: String,
    pub(in crate::audit) columns: Vec<i16>,
}

/// How a partitioned table is cut.
#[derive(Clone, Debug)]
pub(in crate::audit) struct Partitioning {
    /// As `pg_partitioned_table.partstrat`.
    pub(in crate::audit) strategy: String,
    /// 0 for an expression.
    pub(in crate::audit) columns: Vec<i16>,
}

/// `None` if the auditor's role may not see them.
pub(super) async fn columns(
    connection: &mut PgConnection,
) -> Result<Option<Vec<ColumnStatistics>>, Error> {
    let may: bool =
        sqlx::query_scalar("SELECT has_table_privilege('pg_catalog.pg_statistic', 'SELECT')")
            .persistent(false)
            .fetch_one(&mut *connection)
            .await?;
    if !may {
        return Ok(None);
    }
    Ok(Some(
        sqlx::query_as(
            "SELECT s.starelid AS relation, s.staattnum AS column, \
               bool_or(1 IN (s.stakind1, s.stakind2, s.stakind3, s.stakind4, s.stakind5)) AS has_common, \
               bool_or(s.stadistinct < 0) AS mostly_different \
             FROM pg_statistic AS s JOIN pg_class AS c ON c.oid = s.starelid \
             WHERE c.relrowsecurity AND c.relkind IN ('r', 'p') GROUP BY 1, 2 ORDER BY 1, 2",
        )
        .persistent(false)
        .fetch_all(connection)
        .await?,
    ))
}

pub(super) async fn extended(
    connection: &mut PgConnection,
) -> Result<Vec<ExtendedStatistics>, Error> {
    Ok(sqlx::query_as(
        "SELECT x.stxrelid AS relation, format('%I.%I', n.nspname, x.stxname) AS display, x.stxkeys[0:]::int2[] AS columns \
         FROM pg_statistic_ext AS x JOIN pg_namespace AS n ON n.oid = x.stxnamespace JOIN pg_class AS c ON c.oid = x.stxrelid \
         WHERE 'm' = ANY (x.stxkind) AND c.relrowsecurity ORDER BY 2",
    )
    .persistent(false)
    .fetch_all(connection)
    .await?)
}

pub(super) async fn partitionings(
    connection: &mut PgConnection,
) -> Result<BTreeMap<Id, Partitioning>, Error> {
    let rows: Vec<(Id, String, Vec<i16>)> = sqlx::query_as(
        "SELECT partrelid, partstrat::text, partattrs[0:]::int2[] FROM pg_partitioned_table",
    )
    .persistent(false)
    .fetch_all(connection)
    .await?;
    let of = |(table, strategy, columns)| (table, Partitioning { strategy, columns });
    Ok(rows.into_iter().map(of).collect())
}
