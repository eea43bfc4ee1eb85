-- FOR ALL USING(..) without WITH CHECK (PG falls back to USING) - NOT a hole

--- setup
DROP POLICY iso ON app.project; CREATE POLICY iso ON app.project USING (tenant_id = (SELECT app.current_tenant()));

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.x('INSERT INTO app.project(tenant_id,name) VALUES (2,''planted'')') LIKE 'ok%', lab.x('INSERT INTO app.project(tenant_id,name) VALUES (2,''planted'')'));

--- fix
SELECT 1;
