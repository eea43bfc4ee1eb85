-- a view above policies that compares the tenant column itself, with a barrier - NOT a hole

--- setup
CREATE VIEW app.report WITH (security_barrier) AS SELECT tenant_id, id, name FROM app.project WHERE tenant_id = app.current_tenant(); GRANT SELECT ON app.report TO rls_app;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n('select 1 from app.report where tenant_id=2')>0,'rows of tenant 2');

--- fix
SELECT 1;
