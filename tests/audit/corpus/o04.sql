-- the policy that holds rows back is for the application role only, and a view is owned by another

--- setup
CREATE ROLE rls_report NOLOGIN; GRANT USAGE ON SCHEMA app TO rls_report; GRANT SELECT ON app.project TO rls_report; GRANT EXECUTE ON FUNCTION app.current_tenant() TO rls_report;
DROP POLICY iso ON app.project; CREATE POLICY everybody ON app.project USING (true) WITH CHECK (true);
CREATE POLICY iso ON app.project AS RESTRICTIVE TO rls_app USING (tenant_id = (SELECT app.current_tenant())) WITH CHECK (tenant_id = (SELECT app.current_tenant()));
CREATE VIEW app.report AS SELECT tenant_id, id, name FROM app.project; ALTER VIEW app.report OWNER TO rls_report; GRANT SELECT ON app.report TO rls_app;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n('select 1 from app.report where tenant_id=2')>0,'rows of tenant 2');

--- fix
ALTER POLICY iso ON app.project TO PUBLIC;
