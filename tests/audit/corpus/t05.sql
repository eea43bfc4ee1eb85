-- permissive USING (true)

--- setup
DROP POLICY iso ON app.project; CREATE POLICY iso ON app.project USING (true);

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n('select 1 from app.project where tenant_id=2')>0, 'rows of tenant 2 visible: '||lab.n('select 1 from app.project where tenant_id=2'));

--- fix
DROP POLICY iso ON app.project; CREATE POLICY iso ON app.project USING (tenant_id = (SELECT app.current_tenant())) WITH CHECK (tenant_id = (SELECT app.current_tenant()));
