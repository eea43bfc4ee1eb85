-- the application role may read everything, as pg_read_all_data, and a table has no policies

--- setup
CREATE SCHEMA auth; CREATE TABLE auth.users(email text, password text); INSERT INTO auth.users VALUES ('bob@victim.test','x'); GRANT pg_read_all_data TO rls_app;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n($q$select 1 from auth.users where email like '%victim%'$q$)>0,'whom tenant 2 has');

--- fix
REVOKE pg_read_all_data FROM rls_app;
