-- INSERT/UPDATE WITH CHECK (true): rows planted into or moved to another tenant

--- setup
DROP POLICY iso ON app.project; CREATE POLICY iso ON app.project USING (tenant_id = (SELECT app.current_tenant())) WITH CHECK (true);

--- attack
--- as rls_app
SET app.tenant_id='1';
BEGIN; SELECT lab.v(lab.x('INSERT INTO app.project(tenant_id,name) VALUES (2,''planted'')') LIKE 'ok%','row planted in tenant 2; move: '||lab.x('UPDATE app.project SET tenant_id=2 WHERE id=1')); ROLLBACK;

--- fix
ALTER POLICY iso ON app.project WITH CHECK (tenant_id = (SELECT app.current_tenant()));
