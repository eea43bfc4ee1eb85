-- organisations and workspaces: each table has as much of the key as its rows do, and policies compare all of it - NOT a hole

--- config
key | workspace_id | app.workspace_id

--- setup
CREATE TABLE app.board(tenant_id int NOT NULL, workspace_id int NOT NULL, id bigint GENERATED ALWAYS AS IDENTITY, name text, PRIMARY KEY (tenant_id, workspace_id, id), UNIQUE (tenant_id, workspace_id, name)); INSERT INTO app.board(tenant_id,workspace_id,name) VALUES (1,1,'a'),(1,2,'b'); GRANT SELECT, INSERT, UPDATE, DELETE ON app.board TO rls_app;
ALTER TABLE app.board ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY iso ON app.board USING (tenant_id = (SELECT app.current_tenant()) AND workspace_id = (SELECT nullif(current_setting('app.workspace_id', true), '')::int));

--- attack
--- as rls_app
SET app.tenant_id='1'; SET app.workspace_id='1';
SELECT lab.v(lab.n('select 1 from app.board where workspace_id=2')>0,'a board of another workspace');

--- fix
SELECT 1;
