-- a trigger with its owner's rights that writes a journal nobody else reaches - NOT a hole

--- setup
CREATE SCHEMA journal AUTHORIZATION rls_owner; SET ROLE rls_owner; CREATE TABLE journal.entries(tenant_id int NOT NULL, what text); RESET ROLE;
CREATE FUNCTION journal.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ BEGIN INSERT INTO journal.entries VALUES (NEW.tenant_id, TG_OP); RETURN NULL; END $$; ALTER FUNCTION journal.note() OWNER TO rls_owner;
CREATE TRIGGER note AFTER INSERT OR UPDATE ON app.project FOR EACH ROW EXECUTE FUNCTION journal.note();

--- attack
--- as rls_app
SET app.tenant_id='1';
INSERT INTO app.project(name) VALUES ('x');
SELECT lab.v(lab.n('select 1 from journal.entries')>0,'the journal');

--- fix
SELECT 1;
