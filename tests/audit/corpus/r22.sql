-- app role may kill or cancel the other tenants' backends (same role)

--- setup
SELECT 1;

--- attack
--- meanwhile as rls_app
SELECT pg_sleep(2), 'victimq';
--- as rls_app
SELECT lab.v(lab.n('select 1 where (select pg_cancel_backend(pid) from pg_stat_activity where usename=''rls_app'' and pid<>pg_backend_pid() and datname=current_database() limit 1)')>0,'cancelled another tenant''s query');

--- fix
REVOKE EXECUTE ON FUNCTION pg_cancel_backend(int), pg_terminate_backend(int,bigint) FROM PUBLIC;
