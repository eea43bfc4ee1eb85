-- RLS not enabled on a tenant table

--- setup
ALTER TABLE app.project DISABLE ROW LEVEL SECURITY;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n('select 1 from app.project where tenant_id=2')>0, 'rows of tenant 2 visible: '||lab.n('select 1 from app.project where tenant_id=2'));

--- fix
ALTER TABLE app.project ENABLE ROW LEVEL SECURITY;
