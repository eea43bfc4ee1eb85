-- SECURITY DEFINER function owned by a bypass role, executable by app (PUBLIC default!)

--- setup
CREATE FUNCTION app.search(q text) RETURNS SETOF app.project LANGUAGE sql SECURITY DEFINER SET search_path = app, pg_temp AS $$ SELECT * FROM app.project WHERE name LIKE q $$;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n($q$select 1 from app.search('%') where tenant_id=2$q$)>0,'definer = superuser');

--- fix
ALTER FUNCTION app.search(text) SECURITY INVOKER; REVOKE EXECUTE ON FUNCTION app.search(text) FROM PUBLIC;
