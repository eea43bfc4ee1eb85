-- default privileges let the application role call functions, as everybody may - NOT a hole by itself

--- setup
ALTER DEFAULT PRIVILEGES FOR ROLE rls_owner IN SCHEMA app GRANT EXECUTE ON FUNCTIONS TO rls_app; ALTER DEFAULT PRIVILEGES FOR ROLE rls_owner GRANT USAGE ON SCHEMAS TO rls_app;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n('select 1 from app.project where tenant_id=2')>0,'rows of tenant 2');

--- fix
SELECT 1;
