-- app role is SUPERUSER

--- setup
ALTER ROLE rls_app SUPERUSER;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n('select 1 from app.project where tenant_id=2')>0, 'rows of tenant 2 visible: '||lab.n('select 1 from app.project where tenant_id=2'));

--- fix
ALTER ROLE rls_app NOSUPERUSER;
