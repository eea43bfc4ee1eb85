-- a check and a generated column call functions of the owner, and an exclusion constraint holds the tenant - NOT a hole

--- setup
SET ROLE rls_owner; CREATE FUNCTION app.slug(text) RETURNS text LANGUAGE sql IMMUTABLE RETURN lower($1); CREATE TABLE app.slot(tenant_id int NOT NULL, room int NOT NULL, during int4range NOT NULL, name text CHECK (app.slug(name) <> ''), slug text GENERATED ALWAYS AS (app.slug(name)) STORED, tenant_range int4range GENERATED ALWAYS AS (int4range(tenant_id, tenant_id, '[]')) STORED, EXCLUDE USING gist (tenant_range WITH &&, during WITH &&));
CREATE INDEX ON app.slot (tenant_id); ALTER TABLE app.slot DROP CONSTRAINT slot_tenant_range_during_excl; ALTER TABLE app.slot ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY iso ON app.slot USING (tenant_id = (SELECT app.current_tenant())); GRANT SELECT, INSERT ON app.slot TO rls_app; RESET ROLE;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.x($q$create or replace function app.slug(text) returns text language sql immutable as 'select $1'$q$) LIKE 'ok%','the function was replaced');

--- fix
SELECT 1;
