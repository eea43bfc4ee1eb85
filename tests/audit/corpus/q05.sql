-- columns and operators that are leakproof, and a policy that asks once. The attack looks for what is not used

--- setup
ALTER TABLE app.project ADD name_lower text GENERATED ALWAYS AS (lower(name)) STORED; CREATE INDEX project_lower ON app.project (tenant_id, name_lower);
CREATE FUNCTION lab.plan(q text) RETURNS text LANGUAGE plpgsql AS $$ DECLARE j json; BEGIN EXECUTE 'EXPLAIN (FORMAT JSON) '||q INTO j; RETURN j::text; END $$;

--- attack
--- as rls_app
SET enable_seqscan=off; SET enable_bitmapscan=off; SET app.tenant_id='1';
SELECT lab.v(NOT lab.plan($q$select * from app.project where name_lower='p1'$q$) ~ 'Index Cond[^\n]*name_lower','no index is used');

--- fix
SELECT 1;
