-- a view of a view, each with the rights of who asks, over a table that the outer one shows in part - NOT a hole

--- setup
CREATE VIEW app.inner_view WITH (security_invoker) AS SELECT tenant_id, name, secret FROM app.project; CREATE VIEW app.outer_view WITH (security_invoker) AS SELECT name FROM app.inner_view WHERE tenant_id IS NOT NULL; GRANT SELECT ON app.inner_view, app.outer_view TO rls_app;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n($q$select 1 from app.outer_view where name in ('p2','p3')$q$)>0,'rows of tenant 2');

--- fix
SELECT 1;
