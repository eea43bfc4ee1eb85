-- tenant table granted to PUBLIC: every other login role also reaches it with a GUC of its choice

--- setup
GRANT SELECT ON app.project TO PUBLIC; GRANT USAGE ON SCHEMA app TO PUBLIC; GRANT EXECUTE ON FUNCTION app.current_tenant() TO PUBLIC; CREATE ROLE rls_report LOGIN;

--- attack
--- as rls_report
SET app.tenant_id='2';
SELECT lab.v(lab.n('select 1 from app.project where tenant_id=2')>0, 'rows of tenant 2 visible: '||lab.n('select 1 from app.project where tenant_id=2'));

--- fix
REVOKE ALL ON app.project FROM PUBLIC; REVOKE USAGE ON SCHEMA app FROM PUBLIC; REVOKE EXECUTE ON FUNCTION app.current_tenant() FROM PUBLIC; GRANT EXECUTE ON FUNCTION app.current_tenant() TO rls_app;
