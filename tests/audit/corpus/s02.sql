-- SET LOCAL outside a transaction: warning, no effect - fail closed

--- setup
SELECT 1;

--- attack
--- as rls_app
SET LOCAL app.tenant_id='2'; 
SELECT lab.v(lab.n('select 1 from app.project where tenant_id=2')>0, 'rows of tenant 2 visible: '||lab.n('select 1 from app.project where tenant_id=2'));

--- fix
SELECT 1;
