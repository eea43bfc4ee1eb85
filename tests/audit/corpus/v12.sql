-- TABLESAMPLE / ctid / system columns respect RLS - NOT a hole

--- setup
SELECT 1;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n('select 1 from app.project tablesample system(100) where tenant_id=2')+lab.n($q$select 1 from app.project where ctid='(0,2)'$q$)>0,'tablesample+tid scan');

--- fix
SELECT 1;
