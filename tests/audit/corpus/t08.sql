-- policy looks strict but does not refer to the tenant GUC (db_user = current_user on a shared role)

--- setup
ALTER TABLE app.project ADD db_user name DEFAULT 'rls_app'; DROP POLICY iso ON app.project; CREATE POLICY iso ON app.project USING (db_user = current_user AND tenant_id IS NOT NULL);

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n('select 1 from app.project where tenant_id=2')>0, 'rows of tenant 2 visible: '||lab.n('select 1 from app.project where tenant_id=2'));

--- fix
ALTER POLICY iso ON app.project USING (tenant_id = (SELECT app.current_tenant()));
