-- single-column FK between tenant tables: child attached to a foreign parent (oracle; FK check bypasses RLS)

--- setup
ALTER TABLE app.project ADD UNIQUE (id); ALTER TABLE app.task DROP CONSTRAINT task_tenant_id_project_id_fkey, ADD CONSTRAINT fk1 FOREIGN KEY (project_id) REFERENCES app.project(id) ON DELETE CASCADE;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.x('INSERT INTO app.task(project_id,title) VALUES (2,''mine on victim project'')') LIKE 'ok%' AND lab.x('INSERT INTO app.task(project_id,title) VALUES (999,''x'')') NOT LIKE 'ok%','tenant 1 task hangs on tenant 2 project; miss: '||lab.x('INSERT INTO app.task(project_id,title) VALUES (999,''x'')'));

--- fix
DELETE FROM app.task WHERE project_id=2 AND tenant_id=1; ALTER TABLE app.task DROP CONSTRAINT fk1, ADD FOREIGN KEY (tenant_id,project_id) REFERENCES app.project(tenant_id,id) ON DELETE CASCADE;
