-- default privileges give every new sequence to the application role

--- setup
ALTER DEFAULT PRIVILEGES FOR ROLE rls_owner GRANT SELECT, UPDATE ON SEQUENCES TO rls_app;

--- attack
SET ROLE rls_owner; DROP SEQUENCE IF EXISTS app.invoice; CREATE SEQUENCE app.invoice; SELECT nextval('app.invoice'); RESET ROLE;
--- as rls_app
SELECT lab.v(lab.n('select last_value from app.invoice')>0,'the next sequence is readable at once');

--- fix
ALTER DEFAULT PRIVILEGES FOR ROLE rls_owner REVOKE ALL ON SEQUENCES FROM rls_app;
