-- a view above policies compares a column of the name of the tenant's, which a sub-select made up

--- setup
CREATE VIEW app.mine WITH (security_barrier) AS SELECT x.tenant_id, x.secret FROM (SELECT app.current_tenant() AS tenant_id, secret FROM app.project) AS x WHERE x.tenant_id = app.current_tenant(); GRANT SELECT ON app.mine TO rls_app;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n($q$select 1 from app.mine where secret like 'victim%'$q$)>0,'secrets of tenant 2');

--- fix
ALTER VIEW app.mine SET (security_invoker = true);
