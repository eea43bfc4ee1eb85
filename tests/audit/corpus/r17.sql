-- large objects are owned by the shared role, so every tenant reads every blob

--- setup
SET ROLE rls_app; SELECT lo_from_bytea(777777, 'victim-blob'::bytea); RESET ROLE;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n($q$select 1 where convert_from(lo_get(777777),'utf8')='victim-blob'$q$)>0,'lo_get reads the blob another tenant stored');

--- fix
SELECT lo_unlink(777777); REVOKE EXECUTE ON FUNCTION lo_get(oid), lo_creat(int), lo_create(oid), lo_from_bytea(oid,bytea), lo_open(oid,int), lo_put(oid,bigint,bytea), lo_get(oid,bigint,int), lo_unlink(oid) FROM PUBLIC;
