-- SECURITY DEFINER function owned by the FORCEd non-bypass owner: GUC still filters (must not be critical)

--- setup
CREATE FUNCTION app.search(q text) RETURNS SETOF app.project LANGUAGE sql SECURITY DEFINER SET search_path = app, pg_temp AS $$ SELECT * FROM app.project WHERE name LIKE q $$; ALTER FUNCTION app.search(text) OWNER TO rls_owner;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n($q$select 1 from app.search('%') where tenant_id=2$q$)>0,'FORCE applies');

--- fix
SELECT 1;
