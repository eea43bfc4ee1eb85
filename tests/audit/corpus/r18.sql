-- pg_stat_activity shows the literals (and GUC setting statements) of other sessions of the same role

--- setup
SELECT 1;

--- attack
--- meanwhile as rls_app
BEGIN; SELECT set_config('app.tenant_id','2',true); SELECT pg_sleep(2), 'victim-card-4111';
--- as rls_app
SELECT lab.v(lab.n($q$select 1 from pg_stat_activity where query like '%victim-card-4111%' and pid<>pg_backend_pid()$q$)>0,'other tenant''s literal visible');

--- fix
REVOKE SELECT ON pg_catalog.pg_stat_activity FROM PUBLIC; REVOKE EXECUTE ON FUNCTION pg_stat_get_activity(int) FROM PUBLIC;
