-- another login may become the application role, by way of a group, and can do nothing else; the group has GRANT OPTION - NOT a hole

--- setup
CREATE ROLE rls_pool LOGIN NOINHERIT; GRANT rls_app TO rls_pool; CREATE ROLE rls_group NOLOGIN; GRANT USAGE ON SCHEMA app TO rls_group; GRANT SELECT ON app.project TO rls_group WITH GRANT OPTION; GRANT rls_group TO rls_app;

--- attack
--- as rls_pool
SET ROLE rls_app; SET app.tenant_id='1'; 
SELECT lab.v(lab.n('select 1 from app.project where tenant_id=2')>0,'rows of tenant 2');

--- fix
SELECT 1;
