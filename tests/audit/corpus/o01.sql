-- a view of a role for whom a policy of its own lets everything through

--- setup
CREATE ROLE rls_report NOLOGIN; GRANT USAGE ON SCHEMA app TO rls_report; GRANT SELECT ON app.project TO rls_report; GRANT EXECUTE ON FUNCTION app.current_tenant() TO rls_report;
CREATE POLICY reports ON app.project FOR SELECT TO rls_report USING (true);
CREATE VIEW app.report AS SELECT tenant_id, id, name FROM app.project; ALTER VIEW app.report OWNER TO rls_report; GRANT SELECT ON app.report TO rls_app;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n('select 1 from app.report where tenant_id=2')>0,'rows of tenant 2');

--- fix
ALTER VIEW app.report SET (security_invoker = true);
