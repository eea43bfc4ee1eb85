-- a child of a table with policies, by inheritance, is granted by itself

--- setup
CREATE TABLE app.note(tenant_id int NOT NULL, body text); CREATE TABLE app.old_note(archived timestamptz) INHERITS (app.note); INSERT INTO app.old_note VALUES (2,'victim note',now());
ALTER TABLE app.note ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY iso ON app.note USING (tenant_id = (SELECT app.current_tenant())); GRANT SELECT ON app.note, app.old_note TO rls_app;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n('select 1 from app.old_note where tenant_id=2')>0,'a note of tenant 2');

--- fix
REVOKE ALL ON app.old_note FROM rls_app;
