-- pool logs in as a privileged role and only does SET ROLE app: RESET ROLE escapes

--- setup
CREATE ROLE rls_login LOGIN BYPASSRLS; GRANT rls_app TO rls_login; GRANT USAGE ON SCHEMA app TO rls_login; GRANT SELECT ON app.project TO rls_login;

--- attack
--- as rls_login
SET ROLE rls_app; SET app.tenant_id='1'; SELECT 'as app: '||lab.n('select 1 from app.project where tenant_id=2'); RESET ROLE;
SELECT lab.v(lab.n('select 1 from app.project where tenant_id=2')>0, 'rows of tenant 2 visible: '||lab.n('select 1 from app.project where tenant_id=2'));

--- fix
REVOKE rls_app FROM rls_login; REVOKE ALL ON app.project FROM rls_login; REVOKE USAGE ON SCHEMA app FROM rls_login; ALTER ROLE rls_login NOBYPASSRLS;
