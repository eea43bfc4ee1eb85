-- app role owns a tenant table that has no FORCE

--- setup
ALTER TABLE app.project OWNER TO rls_app; ALTER TABLE app.project NO FORCE ROW LEVEL SECURITY;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n('select 1 from app.project where tenant_id=2')>0, 'rows of tenant 2 visible: '||lab.n('select 1 from app.project where tenant_id=2'));

--- fix
ALTER TABLE app.project OWNER TO rls_owner; ALTER TABLE app.project FORCE ROW LEVEL SECURITY; GRANT SELECT,INSERT,UPDATE,DELETE ON app.project TO rls_app;
