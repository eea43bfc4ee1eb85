-- a table without policies that is granted to nobody, and a function of its owner that everybody may call

--- setup
SET ROLE rls_owner;
CREATE TABLE app.archive(tenant_id int NOT NULL, name text); INSERT INTO app.archive VALUES (1,'a'),(2,'b');
CREATE FUNCTION app.archived() RETURNS SETOF app.archive LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT * FROM app.archive';
RESET ROLE;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n('select 1 from app.archived() where tenant_id=2')>0,'rows of tenant 2');

--- fix
ALTER FUNCTION app.archived() SECURITY INVOKER;
