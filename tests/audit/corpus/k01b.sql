-- is the key VALUE of a hidden row shown in DETAIL? (under RLS PostgreSQL suppresses it)

--- setup
ALTER TABLE app.project ADD email text UNIQUE; UPDATE app.project SET email='ceo@victim.test' WHERE id=2;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.x($$INSERT INTO app.project(name,email) VALUES ('x','ceo@victim.test')$$) LIKE '%Key (%', lab.x($$INSERT INTO app.project(name,email) VALUES ('x','ceo@victim.test')$$));

--- fix
SELECT 1;
