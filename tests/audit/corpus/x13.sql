-- a rule on a view writes to a table with the rights of a superuser

--- setup
CREATE VIEW app.inbox AS SELECT 1 AS tenant, ''::text AS name; GRANT INSERT ON app.inbox TO rls_app;
CREATE RULE take AS ON INSERT TO app.inbox DO INSTEAD INSERT INTO app.project(tenant_id, name) VALUES (NEW.tenant, NEW.name);

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.x($q$insert into app.inbox values (2, 'planted')$q$) LIKE 'ok%','a row in tenant 2');

--- fix
DROP RULE take ON app.inbox;
