-- a CHECK that wants keys to look like something, and a policy that lets public rows through

--- setup
CREATE TABLE app.doc(tenant_id text NOT NULL CHECK (tenant_id ~ '^[a-z]{3,12}$'), open boolean NOT NULL DEFAULT false); INSERT INTO app.doc VALUES ('acme',false),('victim',true); GRANT SELECT ON app.doc TO rls_app;
ALTER TABLE app.doc ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY iso ON app.doc USING (tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')) OR open);

--- attack
--- as rls_app
SET app.tenant_id='acme';
SELECT lab.v(lab.n($q$select 1 from app.doc where tenant_id='victim'$q$)>0,'an open row of another tenant');

--- fix
CREATE POLICY always ON app.doc AS RESTRICTIVE USING (tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')));
