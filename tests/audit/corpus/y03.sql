-- keys of domains over domains, and names that need quotes, compared with the context - NOT a hole

--- config
column | app."Odd Table" | Tenant "Id

--- setup
CREATE DOMAIN app."Key" AS uuid; CREATE DOMAIN app."Inner Key" AS app."Key"; CREATE DOMAIN app.slug AS text CHECK (VALUE ~ '^org_[a-z0-9]+$');
CREATE TABLE app."Odd Table"("Tenant ""Id" app."Inner Key" NOT NULL, "is Draft" boolean NOT NULL, PRIMARY KEY ("Tenant ""Id")); CREATE TABLE app.doc(tenant_id app.slug NOT NULL, n bigint, PRIMARY KEY (tenant_id, n)); GRANT SELECT, INSERT ON app."Odd Table", app.doc TO rls_app;
INSERT INTO app."Odd Table" VALUES ('00000000-0000-4000-8000-000000000002', true); INSERT INTO app.doc VALUES ('org_victim', 1);
ALTER TABLE app."Odd Table" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY "i'so" ON app."Odd Table" USING ("Tenant ""Id" = (SELECT nullif(current_setting('app.tenant_id', true), '')::app."Inner Key"));
ALTER TABLE app.doc ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY iso ON app.doc USING (tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')));

--- attack
--- as rls_app
SET app.tenant_id='00000000-0000-4000-8000-000000000001';
SELECT lab.v(lab.n('select 1 from app."Odd Table"')>0 OR lab.n('select 1 from app.doc')>0,'rows of others');

--- fix
SELECT 1;
