-- pgrowlocks shows the row locks (ctid, xids, pids) of hidden rows to anyone with SELECT

--- setup
CREATE EXTENSION pgrowlocks SCHEMA app;

--- attack
--- meanwhile as rls_app
BEGIN; SELECT set_config('app.tenant_id','2',true); SELECT 1 FROM app.project FOR UPDATE; SELECT pg_sleep(2);
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n($q$select 1 from app.pgrowlocks('app.project')$q$)>0,'locks of tenant 2 rows visible');

--- fix
REVOKE EXECUTE ON FUNCTION app.pgrowlocks(text) FROM PUBLIC;
