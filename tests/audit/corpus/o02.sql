-- a function with the rights of a role for whom a policy of its own lets everything through

--- setup
CREATE ROLE rls_report NOLOGIN; GRANT USAGE ON SCHEMA app TO rls_report; GRANT SELECT ON app.project TO rls_report; GRANT EXECUTE ON FUNCTION app.current_tenant() TO rls_report;
CREATE POLICY reports ON app.project FOR SELECT TO rls_report USING (true);
CREATE FUNCTION app.totals() RETURNS TABLE (tenant_id int, projects bigint) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, app, pg_temp AS 'SELECT tenant_id, count(*) FROM app.project GROUP BY 1'; ALTER FUNCTION app.totals() OWNER TO rls_report;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n('select 1 from app.totals() where tenant_id=2')>0,'what tenant 2 has');

--- fix
REVOKE EXECUTE ON FUNCTION app.totals() FROM PUBLIC;
