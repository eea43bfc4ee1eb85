-- app role can SET ROLE to a BYPASSRLS role (membership, NOINHERIT does not help)

--- setup
ALTER ROLE rls_app NOINHERIT; GRANT rls_admin TO rls_app; GRANT USAGE ON SCHEMA app TO rls_admin; GRANT SELECT ON app.project TO rls_admin;

--- attack
--- as rls_app
SET app.tenant_id='1';
SET ROLE rls_admin;
SELECT lab.v(lab.n('select 1 from app.project where tenant_id=2')>0, 'rows of tenant 2 visible: '||lab.n('select 1 from app.project where tenant_id=2'));

--- fix
REVOKE rls_admin FROM rls_app; ALTER ROLE rls_app INHERIT;
