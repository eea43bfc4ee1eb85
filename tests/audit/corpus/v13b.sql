-- pageinspect get_raw_page: hard superuser check even when EXECUTE is granted - NOT a hole

--- setup
CREATE EXTENSION pageinspect SCHEMA app; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA app TO rls_app;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.x($$SELECT app.get_raw_page('app.project',0)$$) LIKE 'ok%', lab.x($$SELECT app.get_raw_page('app.project',0)$$));

--- fix
SELECT 1;
