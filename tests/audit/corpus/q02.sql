-- a table of tenants without an index that begins with the tenant column. The attack looks for one in the plan

--- setup
CREATE TABLE app.event(id bigint PRIMARY KEY, tenant_id int NOT NULL); ALTER TABLE app.event ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY iso ON app.event USING (tenant_id = (SELECT app.current_tenant())); GRANT SELECT ON app.event TO rls_app;
CREATE FUNCTION lab.plan(q text) RETURNS text LANGUAGE plpgsql AS $$ DECLARE j json; BEGIN EXECUTE 'EXPLAIN (FORMAT JSON) '||q INTO j; RETURN j::text; END $$;

--- attack
--- as rls_app
SET enable_seqscan=off;
SELECT lab.v(lab.plan('select * from app.event') LIKE '%Index Cond%','an index is used');

--- fix
SELECT 1;
