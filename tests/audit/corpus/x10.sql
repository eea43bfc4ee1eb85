-- a view above policies holds rows back when they are read, and takes any when they are written

--- setup
CREATE VIEW app.mine WITH (security_barrier) AS SELECT tenant_id, name FROM app.project WHERE tenant_id = app.current_tenant(); GRANT SELECT, INSERT ON app.mine TO rls_app;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.x($q$insert into app.mine values (2, 'planted')$q$) LIKE 'ok%','a row in tenant 2');

--- fix
ALTER VIEW app.mine SET (check_option = cascaded);
