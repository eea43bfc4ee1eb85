-- UNIQUE not prefixed with the tenant column: existence oracle + squatting

--- setup
ALTER TABLE app.project ADD email text UNIQUE; UPDATE app.project SET email='ceo@victim.test' WHERE id=2;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.x($$INSERT INTO app.project(name,email) VALUES ('x','ceo@victim.test')$$) LIKE '23505%', lab.x($$INSERT INTO app.project(name,email) VALUES ('x','ceo@victim.test')$$));

--- fix
ALTER TABLE app.project DROP CONSTRAINT project_email_key, ADD UNIQUE (tenant_id, email);
