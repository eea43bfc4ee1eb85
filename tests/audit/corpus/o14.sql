-- a member of everything asks for its tenants by a function above policies, which only answers - NOT a hole

--- setup
CREATE SCHEMA auth; GRANT USAGE ON SCHEMA auth TO rls_app;
CREATE TABLE auth.members(tenant_id int NOT NULL, user_id text NOT NULL, PRIMARY KEY (tenant_id, user_id)); INSERT INTO auth.members VALUES (1,'ann'),(2,'bob');
CREATE FUNCTION auth.tenants() RETURNS SETOF int LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$ SELECT m.tenant_id FROM auth.members AS m WHERE m.user_id = nullif(pg_catalog.current_setting('app.user_id', true), '') $$;
ALTER FUNCTION auth.tenants() SET search_path = pg_catalog, pg_temp;
DROP POLICY iso ON app.task; CREATE POLICY iso ON app.task USING (tenant_id IN (SELECT auth.tenants())) WITH CHECK (tenant_id IN (SELECT auth.tenants()));

--- attack
--- as rls_app
SET app.tenant_id='1'; SET app.user_id='ann';
SELECT lab.v(lab.n('select 1 from app.task where tenant_id=2')>0 OR lab.n('select 1 from app.task')<>1,'rows of tenant 2');

--- fix
SELECT 1;
