-- keys of a domain that want to look like something, and a policy that fails open

--- setup
CREATE DOMAIN app.slug AS text CHECK (VALUE ~ '^org_[a-z0-9]+$'); CREATE DOMAIN app.tenant_slug AS app.slug;
CREATE TABLE app.doc(tenant_id app.tenant_slug NOT NULL, body text); INSERT INTO app.doc VALUES ('org_acme','a'),('org_victim','b'); GRANT SELECT ON app.doc TO rls_app;
ALTER TABLE app.doc ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY iso ON app.doc USING (tenant_id = coalesce(nullif(current_setting('app.tenant_id', true), ''), tenant_id::text));

--- attack
--- as rls_app
SELECT lab.v(lab.n($q$select 1 from app.doc where tenant_id='org_victim'$q$)>0,'without a context the rows of all');

--- fix
ALTER POLICY iso ON app.doc USING (tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')));
