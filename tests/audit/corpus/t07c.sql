-- FOR UPDATE policy with WITH CHECK(true): the SELECT policy stops WHERE-updates but a WHERE-less UPDATE moves rows

--- setup
DROP POLICY iso ON app.project; CREATE POLICY r ON app.project FOR SELECT USING (tenant_id = (SELECT app.current_tenant())); CREATE POLICY w ON app.project FOR UPDATE USING (tenant_id = (SELECT app.current_tenant())) WITH CHECK (true); ALTER TABLE app.task DISABLE TRIGGER ALL; DELETE FROM app.task; ALTER TABLE app.task ENABLE TRIGGER ALL;

--- attack
--- as rls_app
SET app.tenant_id='1';
BEGIN; SELECT 'with WHERE: '||lab.x('UPDATE app.project SET tenant_id=2 WHERE id=1'); SELECT lab.v(lab.x('UPDATE app.project SET tenant_id=2')='ok:1','a WHERE-less UPDATE moved the row to tenant 2'); ROLLBACK;

--- fix
ALTER POLICY w ON app.project WITH CHECK (tenant_id = (SELECT app.current_tenant()));
