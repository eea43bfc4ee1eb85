-- a membership sub-select, with a restrictive policy behind it - NOT a hole

--- setup
CREATE TABLE app.member(tenant_id int NOT NULL, user_id text NOT NULL, PRIMARY KEY (tenant_id, user_id)); INSERT INTO app.member VALUES (1,'ann'),(2,'bob'); GRANT SELECT ON app.member TO rls_app;
ALTER TABLE app.member ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY own ON app.member USING (tenant_id = (SELECT app.current_tenant()));
DROP POLICY iso ON app.project; CREATE POLICY members ON app.project USING (EXISTS (SELECT FROM app.member AS m WHERE m.user_id = nullif(current_setting('app.user_id', true), '') AND m.tenant_id = project.tenant_id)); CREATE POLICY always ON app.project AS RESTRICTIVE USING (tenant_id = (SELECT app.current_tenant()));

--- attack
--- as rls_app
SET app.tenant_id='1'; SET app.user_id='ann';
SELECT lab.v(lab.n('select 1 from app.project where tenant_id=2')>0,'rows of tenant 2');

--- fix
SELECT 1;
