-- an organisation has workspaces, and policies know the organisation only

--- config
key | workspace_id | app.workspace_id

--- setup
CREATE TABLE app.board(tenant_id int NOT NULL, workspace_id int NOT NULL, name text); INSERT INTO app.board VALUES (1,1,'a'),(1,2,'b'); GRANT SELECT ON app.board TO rls_app;
ALTER TABLE app.board ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY iso ON app.board USING (tenant_id = (SELECT app.current_tenant()));

--- attack
--- as rls_app
SET app.tenant_id='1'; SET app.workspace_id='1';
SELECT lab.v(lab.n('select 1 from app.board where workspace_id=2')>0,'a board of another workspace');

--- fix
CREATE POLICY always ON app.board AS RESTRICTIVE USING (workspace_id = (SELECT nullif(current_setting('app.workspace_id', true), '')::int));
