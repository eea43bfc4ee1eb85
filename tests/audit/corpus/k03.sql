-- ON DELETE CASCADE through a non-composite FK deletes the other tenant's rows (RI bypasses RLS)

--- setup
ALTER TABLE app.project ADD UNIQUE (id); ALTER TABLE app.task DROP CONSTRAINT task_tenant_id_project_id_fkey, ADD CONSTRAINT fk1 FOREIGN KEY (project_id) REFERENCES app.project(id) ON DELETE CASCADE; INSERT INTO app.task(tenant_id,project_id,title) VALUES (2,1,'victim task on shared project');

--- attack
--- as rls_app
SET app.tenant_id='1'; 
SELECT lab.x('DELETE FROM app.project WHERE id=1');
--- as postgres
SELECT lab.v((SELECT count(*) FROM app.task WHERE tenant_id=2) < 2,'tenant 1''s DELETE removed tenant 2''s task');

--- fix
DELETE FROM app.task WHERE project_id=1 AND tenant_id=2; ALTER TABLE app.task DROP CONSTRAINT fk1, ADD FOREIGN KEY (tenant_id,project_id) REFERENCES app.project(tenant_id,id) ON DELETE CASCADE;
