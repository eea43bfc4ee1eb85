-- a table without a tenant column has policies, which let everything through

--- setup
CREATE TABLE app.task_note(task_id bigint, body text); INSERT INTO app.task_note VALUES (2,'victim note'); ALTER TABLE app.task_note ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY all_notes ON app.task_note USING (true); GRANT SELECT ON app.task_note TO rls_app;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n($q$select 1 from app.task_note where body='victim note'$q$)>0,'a note of tenant 2');

--- fix
REVOKE ALL ON app.task_note FROM rls_app;
