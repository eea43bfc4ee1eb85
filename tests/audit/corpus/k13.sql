-- large cross-tenant timing: non-leakproof user filter never runs on hidden rows - NOT a hole

--- setup
SELECT 1;

--- attack
--- as rls_app
SET app.tenant_id='1';
CREATE TEMP TABLE loot(s text); CREATE FUNCTION pg_temp.leak(x text) RETURNS boolean COST 0.00001 LANGUAGE plpgsql AS $$ BEGIN INSERT INTO loot VALUES (x); RETURN true; END $$;
SELECT lab.n('select 1 from app.project where pg_temp.leak(secret)'); SELECT lab.v(EXISTS(SELECT 1 FROM loot WHERE s LIKE 'victim%'),'RLS barrier held');

--- fix
SELECT 1;
