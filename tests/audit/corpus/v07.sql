-- foreign table (postgres_fdw): RLS cannot be enabled on it

--- setup
CREATE EXTENSION postgres_fdw; CREATE SERVER loop FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{host}', port '{port}', dbname '{database}'); CREATE USER MAPPING FOR rls_app SERVER loop OPTIONS (user 'postgres', password_required 'false');
CREATE FOREIGN TABLE app.remote_project(tenant_id int, secret text) SERVER loop OPTIONS (schema_name 'app', table_name 'project'); GRANT SELECT ON app.remote_project TO rls_app;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n('select 1 from app.remote_project where tenant_id=2')>0,'foreign table returns all tenants; ALTER..ENABLE RLS: '||lab.x('ALTER TABLE app.remote_project ENABLE ROW LEVEL SECURITY'));

--- fix
REVOKE ALL ON app.remote_project FROM rls_app; DROP USER MAPPING FOR rls_app SERVER loop;
