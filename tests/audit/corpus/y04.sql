-- a view above policies that may be written through, WITH CHECK OPTION - NOT a hole

--- setup
CREATE VIEW app.mine WITH (security_barrier, check_option = cascaded) AS SELECT tenant_id, name, EXTRACT(year FROM now()) AS year FROM app.project WHERE tenant_id = app.current_tenant(); GRANT SELECT, INSERT, UPDATE (name) ON app.mine TO rls_app;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.x($q$insert into app.mine(tenant_id, name) values (2, 'planted')$q$) LIKE 'ok%' OR lab.n('select 1 from app.mine where tenant_id=2')>0,'a row in tenant 2');

--- fix
SELECT 1;
