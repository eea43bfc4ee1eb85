-- UNIQUE of an expression and of some rows only, without the tenant column

--- setup
CREATE UNIQUE INDEX "one name ( each" ON app.project (lower(name)) WHERE secret IS NOT NULL; UPDATE app.project SET name='Acquisition' WHERE id=2;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.x($$INSERT INTO app.project(name,secret) VALUES ('ACQUISITION','s')$$) LIKE '23505%', lab.x($$INSERT INTO app.project(name,secret) VALUES ('ACQUISITION','s')$$));

--- fix
DROP INDEX app."one name ( each"; CREATE UNIQUE INDEX ON app.project (tenant_id, lower(name)) WHERE secret IS NOT NULL;
