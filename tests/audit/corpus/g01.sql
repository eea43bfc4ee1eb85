-- the application role may switch the checks of large objects off (from PostgreSQL 15 on)

--- setup
SELECT lo_from_bytea(777778, 'victim-blob'::bytea); GRANT SET ON PARAMETER lo_compat_privileges TO rls_app;

--- attack
--- as rls_app
SET lo_compat_privileges = on;
SELECT lab.v(lab.n($q$select 1 where convert_from(lo_get(777778),'utf8')='victim-blob'$q$)>0,'a large object of another role');
--- as postgres
SELECT lo_unlink(777778);
SELECT lo_from_bytea(777778, 'victim-blob'::bytea);

--- fix
REVOKE SET ON PARAMETER lo_compat_privileges FROM rls_app;
