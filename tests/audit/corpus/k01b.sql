-- is the key VALUE of a hidden row shown in DETAIL? Under RLS PostgreSQL suppresses it. (The key itself is k01)

--- setup
ALTER TABLE app.project ADD email text UNIQUE; UPDATE app.project SET email='ceo@victim.test' WHERE id=2;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.x($$INSERT INTO app.project(name,email) VALUES ('x','ceo@victim.test')$$) LIKE '%Key (%', lab.x($$INSERT INTO app.project(name,email) VALUES ('x','ceo@victim.test')$$));

--- fix
SELECT 1;
