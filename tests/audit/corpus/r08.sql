-- TRUNCATE privilege ignores RLS

--- setup
GRANT TRUNCATE ON app.task TO rls_app;

--- attack
--- as rls_app
SET app.tenant_id='1';
BEGIN; SELECT lab.v(lab.x('TRUNCATE app.task') LIKE 'ok%', 'tenant 1 emptied the table of every tenant'); ROLLBACK;

--- fix
REVOKE TRUNCATE ON ALL TABLES IN SCHEMA app FROM rls_app;
