-- an index over a function that is not leakproof. The attack looks for it in the plan

--- setup
CREATE INDEX project_lower ON app.project (tenant_id, lower(name));
CREATE FUNCTION lab.plan(q text) RETURNS text LANGUAGE plpgsql AS $$ DECLARE j json; BEGIN EXECUTE 'EXPLAIN (FORMAT JSON) '||q INTO j; RETURN j::text; END $$;

--- attack
--- as rls_app
SET enable_seqscan=off; SET app.tenant_id='1';
SELECT lab.v(lab.plan($q$select * from app.project where tenant_id=1 and lower(name)='p1'$q$) ~ 'Index Cond[^\n]*lower','an index is used');

--- fix
SELECT 1;
