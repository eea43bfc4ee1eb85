//! A schema of many tables, for what has to cope with it.

use std::fmt::Write as _;

use sqlx::{AssertSqlSafe, Executor as _, PgPool};
use tenantry::audit::AuditConfig;

/// So many at a time: a transaction that makes more runs out of locks.
const BATCH: usize = 100;

/// Tables with two indexes, a foreign key and policies of three kinds, and half as many views: most
/// policies are bound by their form, every tenth is asked of rows, and every tenth asks another table.
pub(crate) async fn make(pool: &PgPool, tables: usize) {
    let base = "CREATE ROLE app LOGIN; CREATE ROLE owner NOLOGIN; CREATE SCHEMA shop AUTHORIZATION owner; \
                GRANT USAGE ON SCHEMA shop TO app; REVOKE CREATE ON SCHEMA public FROM PUBLIC; SET ROLE owner; \
                CREATE FUNCTION shop.tenant() RETURNS int LANGUAGE sql STABLE \
                  RETURN nullif(current_setting('app.tenant_id', true), '')::int; \
                CREATE TABLE shop.members (tenant_id int NOT NULL, member text NOT NULL, PRIMARY KEY (tenant_id, member)); \
                ALTER TABLE shop.members ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; \
                CREATE POLICY p ON shop.members USING (tenant_id = (SELECT shop.tenant())); \
                GRANT SELECT ON shop.members TO app; RESET ROLE";
    pool.execute(base).await.expect("a base");
    let numbers: Vec<_> = (0..tables).collect();
    for batch in numbers.chunks(BATCH) {
        let mut sql = "SET ROLE owner;".to_owned();
        for number in batch {
            let policy = match number % 10 {
                8 => {
                    "tenant_id = (SELECT shop.tenant()) AND state IN ('open', 'shut') OR state = 'never' AND false"
                }
                9 => "tenant_id IN (SELECT m.tenant_id FROM shop.members AS m)",
                _ => "tenant_id = (SELECT shop.tenant())",
            };
            write!(
                sql,
                "CREATE TABLE shop.t{number} (tenant_id int NOT NULL, id bigint GENERATED ALWAYS AS IDENTITY, name text NOT NULL, \
                   state text NOT NULL DEFAULT 'open' CHECK (state <> ''), parent bigint, PRIMARY KEY (tenant_id, id), \
                   FOREIGN KEY (tenant_id, parent) REFERENCES shop.t{number} (tenant_id, id)); \
                 CREATE UNIQUE INDEX ON shop.t{number} (tenant_id, name); \
                 ALTER TABLE shop.t{number} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; \
                 CREATE POLICY p ON shop.t{number} USING ({policy}) WITH CHECK (tenant_id = (SELECT shop.tenant())); \
                 GRANT SELECT, INSERT, UPDATE, DELETE ON shop.t{number} TO app;"
            )
            .expect("a string");
            if number % 2 == 0 {
                write!(
                    sql,
                    "CREATE VIEW shop.v{number} AS SELECT id, name FROM shop.t{number} WHERE state = 'open'; \
                     GRANT SELECT ON shop.v{number} TO app;"
                )
                .expect("a string");
            }
        }
        sql += "RESET ROLE";
        pool.execute(AssertSqlSafe(sql)).await.expect("tables");
    }
    pool.execute("ANALYZE").await.expect("analyzed");
}

/// Whose isolation it is.
pub(crate) fn config() -> AuditConfig {
    AuditConfig::new("app").tenant_column("tenant_id", "app.tenant_id")
}
