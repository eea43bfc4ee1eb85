-- a view of a member of the owner of a table that is not forced: the member has the privileges of the owner

--- setup
CREATE ROLE rls_report NOLOGIN; GRANT rls_owner TO rls_report; ALTER TABLE app.project NO FORCE ROW LEVEL SECURITY;
CREATE VIEW app.report AS SELECT tenant_id, id, name FROM app.project; ALTER VIEW app.report OWNER TO rls_report; GRANT SELECT ON app.report TO rls_app;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n('select 1 from app.report where tenant_id=2')>0,'rows of tenant 2');

--- fix
ALTER TABLE app.project FORCE ROW LEVEL SECURITY;
