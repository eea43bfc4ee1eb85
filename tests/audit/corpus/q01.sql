-- a policy that asks for the context again for each row. Nothing leaks: the attack looks for an InitPlan

--- setup
ALTER POLICY iso ON app.project USING (tenant_id = app.current_tenant()) WITH CHECK (tenant_id = app.current_tenant());
CREATE FUNCTION lab.plan(q text) RETURNS text LANGUAGE plpgsql AS $$ DECLARE j json; BEGIN EXECUTE 'EXPLAIN (FORMAT JSON) '||q INTO j; RETURN j::text; END $$;

--- attack
--- as rls_app
SET enable_indexscan=off; SET enable_bitmapscan=off; SET enable_indexonlyscan=off;
SELECT lab.v(lab.plan('select * from app.project') LIKE '%InitPlan%','evaluated once');

--- fix
SELECT 1;
