-- child table without tenant column and without RLS, reachable by FK from tenant data

--- setup
CREATE TABLE app.task_note(task_id bigint, body text); INSERT INTO app.task_note VALUES (2,'victim note'); GRANT SELECT ON app.task_note TO rls_app;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n('select 1 from app.task_note where body=''victim note''')>0,'reads child rows of victim');

--- fix
ALTER TABLE app.task_note ADD tenant_id int; UPDATE app.task_note n SET tenant_id=t.tenant_id FROM app.task t WHERE t.id=n.task_id; ALTER TABLE app.task_note ALTER tenant_id SET NOT NULL, ALTER tenant_id SET DEFAULT app.current_tenant(), ADD FOREIGN KEY (tenant_id,task_id) REFERENCES app.task(tenant_id,id), ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY iso ON app.task_note USING (tenant_id=(SELECT app.current_tenant()));
