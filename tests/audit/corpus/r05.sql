-- app role owns a table WITH FORCE: it can drop the policy / disable RLS itself

--- setup
ALTER TABLE app.project OWNER TO rls_app;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.x('ALTER TABLE app.project DISABLE ROW LEVEL SECURITY');
SELECT lab.v(lab.n('select 1 from app.project where tenant_id=2')>0, 'rows of tenant 2 visible: '||lab.n('select 1 from app.project where tenant_id=2'));

--- fix
ALTER TABLE app.project OWNER TO rls_owner; ALTER TABLE app.project ENABLE ROW LEVEL SECURITY; GRANT SELECT,INSERT,UPDATE,DELETE ON app.project TO rls_app;
