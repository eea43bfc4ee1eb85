-- indexes over types whose comparison is not leakproof, and over what is for LIKE. The attack looks for them in the plan

--- setup
CREATE TYPE app.state AS ENUM ('open', 'shut'); ALTER TABLE app.project ADD price numeric, ADD state app.state, ADD tags text[];
CREATE INDEX project_price ON app.project (tenant_id, price); CREATE INDEX project_state ON app.project (tenant_id, state); CREATE INDEX project_tags ON app.project USING gin (tags); CREATE INDEX project_name ON app.project (tenant_id, name text_pattern_ops);
CREATE FUNCTION lab.plan(q text) RETURNS text LANGUAGE plpgsql AS $$ DECLARE j json; BEGIN EXECUTE 'EXPLAIN (FORMAT JSON) '||q INTO j; RETURN j::text; END $$;

--- attack
--- as rls_app
SET enable_seqscan=off; SET app.tenant_id='1';
SELECT lab.v(lab.plan('select * from app.project where price=1') ~ 'Index Cond[^\n]*price' OR lab.plan($q$select * from app.project where state='open'$q$) ~ 'Index Cond[^\n]*state' OR lab.plan($q$select * from app.project where tags @> array['a']$q$) ~ 'Index Cond[^\n]*tags' OR lab.plan($q$select * from app.project where name like 'a%'$q$) ~ 'Index Cond[^\n]*name','an index is used');

--- fix
SELECT 1;
