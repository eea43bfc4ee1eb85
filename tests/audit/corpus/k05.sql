-- shared sequence readable: volume/rate of other tenants; UPDATE privilege = setval tampering

--- setup
CREATE SEQUENCE app.invoice_no; GRANT ALL ON app.invoice_no TO rls_app;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n('select 1 from app.invoice_no')>0 , 'last_value readable; setval: '||lab.x('select setval(''app.invoice_no'',1,false)'));

--- fix
REVOKE ALL ON app.invoice_no FROM rls_app; GRANT USAGE ON app.invoice_no TO rls_app;
