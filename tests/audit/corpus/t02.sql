-- RLS enabled but not FORCED: every path running as the owner is exempt (views, definer functions, migrations)

--- setup
ALTER TABLE app.project NO FORCE ROW LEVEL SECURITY; CREATE VIEW app.v AS SELECT * FROM app.project; ALTER VIEW app.v OWNER TO rls_owner; GRANT SELECT ON app.v TO rls_app;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n('select 1 from app.v where tenant_id=2')>0,'owner-owned view reads all tenants');

--- fix
ALTER TABLE app.project FORCE ROW LEVEL SECURITY;
