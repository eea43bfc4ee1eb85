-- default privileges let the application role make objects in every new schema

--- setup
ALTER DEFAULT PRIVILEGES FOR ROLE rls_owner GRANT USAGE, CREATE ON SCHEMAS TO rls_app; GRANT CREATE ON DATABASE {database} TO rls_owner;

--- attack
SET ROLE rls_owner; DROP SCHEMA IF EXISTS plugin CASCADE; CREATE SCHEMA plugin; RESET ROLE;
--- as rls_app
SELECT lab.v(lab.x('create function plugin.now() returns int language sql as $$select 1$$') LIKE 'ok%','a function in the next schema');

--- fix
ALTER DEFAULT PRIVILEGES FOR ROLE rls_owner REVOKE ALL ON SCHEMAS FROM rls_app;
