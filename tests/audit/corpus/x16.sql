-- one column of a table without policies is granted to a group of a group

--- setup
CREATE ROLE rls_readers NOLOGIN; CREATE ROLE rls_group NOLOGIN; GRANT rls_readers TO rls_group; GRANT rls_group TO rls_app; GRANT USAGE ON SCHEMA app TO rls_readers;
CREATE TABLE app.billing(tenant_id int NOT NULL, iban text); INSERT INTO app.billing VALUES (2,'DE02'); GRANT SELECT (iban) ON app.billing TO rls_readers;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n('select iban from app.billing')>0,'the account of tenant 2');

--- fix
ALTER TABLE app.billing ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
