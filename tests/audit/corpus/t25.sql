-- policy compares with LIKE: a GUC of '%' matches every tenant

--- setup
CREATE TABLE app.note(tenant_id text NOT NULL, body text); INSERT INTO app.note VALUES ('2','v'); ALTER TABLE app.note ENABLE ROW LEVEL SECURITY; ALTER TABLE app.note FORCE ROW LEVEL SECURITY;
CREATE POLICY iso ON app.note USING (tenant_id LIKE nullif(current_setting('app.tenant_id',true),'')); GRANT SELECT ON app.note TO rls_app;

--- attack
--- as rls_app
SET app.tenant_id='1';
SET app.tenant_id='%'; SELECT lab.v(lab.n('select 1 from app.note where tenant_id=''2''')>0,'wildcard tenant');

--- fix
ALTER POLICY iso ON app.note USING (tenant_id = (SELECT nullif(current_setting('app.tenant_id',true),'')));
