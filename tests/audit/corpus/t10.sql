-- fail-open predicate: unset/empty GUC means everything

--- setup
DROP POLICY iso ON app.project; CREATE POLICY iso ON app.project USING (tenant_id = coalesce(nullif(current_setting('app.tenant_id',true),'')::int, tenant_id));

--- attack
--- as rls_app
SELECT lab.v(lab.n('select 1 from app.project where tenant_id=2')>0, 'rows of tenant 2 visible: '||lab.n('select 1 from app.project where tenant_id=2'));

--- fix
ALTER POLICY iso ON app.project USING (tenant_id = (SELECT app.current_tenant()));
