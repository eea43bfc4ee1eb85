-- pg_stats for an RLS table: hidden by row_security_active() - NOT a hole

--- setup
INSERT INTO app.project(tenant_id,name,secret) SELECT 2,'acquisition-of-globex','s' FROM generate_series(1,4000); ANALYZE app.project;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n($q$select 1 from pg_stats where schemaname='app' and tablename='project'$q$)>0,'pg_stats rows: '||lab.n($q$select 1 from pg_stats where schemaname='app' and tablename='project'$q$));

--- fix
SELECT 1;
