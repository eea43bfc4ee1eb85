-- a membership sub-select compares a column with itself: the inner table has one of that name

--- setup
CREATE TABLE app.member(tenant_id int NOT NULL, user_id text NOT NULL, PRIMARY KEY (tenant_id, user_id)); INSERT INTO app.member VALUES (1,'ann'),(2,'bob'); GRANT SELECT ON app.member TO rls_app;
ALTER TABLE app.member ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY own ON app.member USING (user_id = (SELECT nullif(current_setting('app.user_id', true), ''))); CREATE POLICY iso ON app.member AS RESTRICTIVE USING (tenant_id = (SELECT app.current_tenant()));
DROP POLICY iso ON app.project; CREATE POLICY members ON app.project USING (EXISTS (SELECT FROM app.member AS m WHERE m.user_id = nullif(current_setting('app.user_id', true), '') AND m.tenant_id = tenant_id));

--- attack
--- as rls_app
SET app.tenant_id='1'; SET app.user_id='ann';
SELECT lab.v(lab.n('select 1 from app.project where tenant_id=2')>0,'ann is a member of 1 and sees 2');

--- fix
CREATE POLICY always ON app.project AS RESTRICTIVE USING (tenant_id = (SELECT app.current_tenant()));
