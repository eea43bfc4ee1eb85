-- the function for the context falls back to a tenant where there is none

--- setup
CREATE OR REPLACE FUNCTION app.current_tenant() RETURNS int LANGUAGE sql STABLE PARALLEL SAFE RETURN coalesce(nullif(pg_catalog.current_setting('app.tenant_id', true), '')::int, 2);

--- attack
--- as rls_app
SELECT lab.v(lab.n('select 1 from app.project where tenant_id=2')>0,'without a context the rows of tenant 2');

--- fix
CREATE OR REPLACE FUNCTION app.current_tenant() RETURNS int LANGUAGE sql STABLE PARALLEL SAFE RETURN nullif(pg_catalog.current_setting('app.tenant_id', true), '')::int;
