-- a view above policies compares the tenant column, and counts all rows beside that

--- setup
CREATE VIEW app.mine WITH (security_barrier) AS SELECT p.tenant_id, p.id, (SELECT string_agg(q.secret, ',') FROM app.project AS q) AS secrets FROM app.project AS p WHERE p.tenant_id = app.current_tenant(); GRANT SELECT ON app.mine TO rls_app;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n($q$select 1 from app.mine where secrets like '%victim%'$q$)>0,'secrets of tenant 2');

--- fix
ALTER VIEW app.mine SET (security_invoker = true);
