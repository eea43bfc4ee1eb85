-- COPY / row_security=off by the app role: refused, not bypassed

--- setup
SELECT 1;

--- attack
--- as rls_app
SET app.tenant_id='1';
SET row_security=off; SELECT lab.v(lab.n('select 1 from app.project where tenant_id=2')>0, lab.x('SELECT * FROM app.project')); 
SET row_security=on; COPY (SELECT lab.v(count(*)>0,'COPY (SELECT) is filtered') FROM app.project WHERE tenant_id=2) TO STDOUT;

--- fix
SELECT 1;
