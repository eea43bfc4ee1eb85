-- view without security_invoker, owned by a role that bypasses RLS

--- setup
CREATE VIEW app.v AS SELECT * FROM app.project; GRANT SELECT ON app.v TO rls_app;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n('select 1 from app.v where tenant_id=2')>0,'view owner = superuser');

--- fix
ALTER VIEW app.v SET (security_invoker = true);
