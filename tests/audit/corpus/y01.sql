-- a table without a tenant column whose policy asks the table of tenants that its rows belong to - NOT a hole

--- setup
CREATE TABLE app.task_note(tenant int NOT NULL, task_id bigint NOT NULL, body text, FOREIGN KEY (tenant, task_id) REFERENCES app.task(tenant_id, id)); INSERT INTO app.task_note VALUES (2,2,'victim note'); ALTER TABLE app.task_note ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY of_task ON app.task_note USING (EXISTS (SELECT FROM app.task AS t WHERE t.id = task_id AND t.tenant_id = tenant)); GRANT SELECT, INSERT ON app.task_note TO rls_app;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n('select 1 from app.task_note')>0,'a note of tenant 2');

--- fix
SELECT 1;
