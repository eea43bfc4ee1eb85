-- current_setting(..,true) is '' (not NULL) after a SET LOCAL tx: text tenant column with '' rows becomes visible

--- setup
CREATE TABLE app.note(tenant_id text NOT NULL, body text); INSERT INTO app.note VALUES ('','system/orphan row'),('2','v'); ALTER TABLE app.note ENABLE ROW LEVEL SECURITY; ALTER TABLE app.note FORCE ROW LEVEL SECURITY;
CREATE POLICY iso ON app.note USING (tenant_id = (SELECT current_setting('app.tenant_id',true))); GRANT SELECT ON app.note TO rls_app;

--- attack
--- as rls_app
SELECT 'virgin session: '||coalesce('['||current_setting('app.tenant_id',true)||']','NULL'); BEGIN; SELECT set_config('app.tenant_id','1',true); COMMIT; SELECT 'after tx: '||coalesce('['||current_setting('app.tenant_id',true)||']','NULL');
SELECT lab.v(lab.n('select 1 from app.note')>0,'no tenant set, yet rows with tenant_id='''' are visible');

--- fix
ALTER POLICY iso ON app.note USING (tenant_id = (SELECT nullif(current_setting('app.tenant_id',true),''))); ALTER TABLE app.note ADD CHECK (tenant_id <> '') NOT VALID;
