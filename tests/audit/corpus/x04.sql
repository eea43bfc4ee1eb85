-- the same in the policy itself

--- setup
ALTER POLICY iso ON app.project USING (tenant_id = coalesce(nullif(current_setting('app.tenant_id', true), '')::int, 2));

--- attack
--- as rls_app
SELECT lab.v(lab.n('select 1 from app.project where tenant_id=2')>0,'without a context the rows of tenant 2');

--- fix
ALTER POLICY iso ON app.project USING (tenant_id = (SELECT app.current_tenant()));
