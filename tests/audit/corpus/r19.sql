-- pg_stat_statements readable: own-role entries keep constants of utility statements

--- setup
CREATE EXTENSION pg_stat_statements SCHEMA app;

--- attack
--- as rls_app
SET app.tenant_id = '2'; COMMENT ON COLUMN app.project.name IS 'x'; CREATE TEMP TABLE "victim-name-in-ddl"(x int); 
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n($q$select 1 from app.pg_stat_statements where query like '%victim-name-in-ddl%' and query not like '%lab.v%'$q$)>0,'utility statement text with literals readable by every tenant');

--- fix
REVOKE ALL ON app.pg_stat_statements FROM PUBLIC; REVOKE EXECUTE ON FUNCTION app.pg_stat_statements(boolean) FROM PUBLIC;
