-- no policy for a command (deny all; availability only)

--- setup
DROP POLICY iso ON app.task; CREATE POLICY iso_r ON app.task FOR SELECT USING (tenant_id = (SELECT app.current_tenant()));

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.x('UPDATE app.task SET title=''x'' WHERE tenant_id=2')<>'ok:0','deny-all: '||lab.x('UPDATE app.task SET title=''x'''));

--- fix
DROP POLICY iso_r ON app.task; CREATE POLICY iso ON app.task USING (tenant_id = (SELECT app.current_tenant())) WITH CHECK (tenant_id = (SELECT app.current_tenant()));
