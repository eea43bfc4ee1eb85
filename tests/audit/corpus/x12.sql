-- an INSTEAD OF trigger with the rights of a superuser writes what is written to a view

--- setup
CREATE VIEW app.inbox WITH (security_barrier) AS SELECT tenant_id, name FROM app.project WHERE false; GRANT INSERT ON app.inbox TO rls_app; ALTER VIEW app.inbox OWNER TO rls_owner;
CREATE FUNCTION app.take() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ BEGIN INSERT INTO app.project(tenant_id, name) VALUES (NEW.tenant_id, NEW.name); RETURN NEW; END $$;
CREATE TRIGGER take INSTEAD OF INSERT ON app.inbox FOR EACH ROW EXECUTE FUNCTION app.take();

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.x($q$insert into app.inbox values (2, 'planted')$q$) LIKE 'ok%','a row in tenant 2');

--- fix
ALTER FUNCTION app.take() SECURITY INVOKER;
