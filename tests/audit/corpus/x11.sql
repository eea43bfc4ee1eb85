-- a function that brings the context of a tenant along

--- setup
CREATE FUNCTION app.demo() RETURNS SETOF app.project LANGUAGE sql STABLE SET app.tenant_id = '2' AS 'SELECT * FROM app.project';

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n('select 1 from app.demo() where tenant_id=2')>0,'rows of tenant 2');

--- fix
ALTER FUNCTION app.demo() RESET app.tenant_id;
