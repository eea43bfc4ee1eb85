-- default privileges hand FUTURE tables to the app role before RLS is enabled

--- setup
ALTER DEFAULT PRIVILEGES FOR ROLE rls_owner IN SCHEMA app GRANT SELECT ON TABLES TO rls_app;

--- attack
SET ROLE rls_owner; DROP TABLE IF EXISTS app.invoice; CREATE TABLE app.invoice(tenant_id int NOT NULL, total int); INSERT INTO app.invoice VALUES (2,999); RESET ROLE;
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n('select 1 from app.invoice where tenant_id=2')>0,'new table is readable at once');

--- fix
DROP TABLE IF EXISTS app.invoice; ALTER DEFAULT PRIVILEGES FOR ROLE rls_owner IN SCHEMA app REVOKE ALL ON TABLES FROM rls_app;
