-- partition child granted directly: the parent's policies are not applied

--- setup
CREATE TABLE app.ev(tenant_id int NOT NULL, d text) PARTITION BY LIST(tenant_id); CREATE TABLE app.ev_2 PARTITION OF app.ev FOR VALUES IN (2); INSERT INTO app.ev VALUES (2,'v'); ALTER TABLE app.ev ENABLE ROW LEVEL SECURITY; ALTER TABLE app.ev FORCE ROW LEVEL SECURITY; CREATE POLICY iso ON app.ev USING (tenant_id=(SELECT app.current_tenant())); GRANT SELECT ON ALL TABLES IN SCHEMA app TO rls_app;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT 'via parent: '||lab.n('select 1 from app.ev where tenant_id=2'); SELECT lab.v(lab.n('select 1 from app.ev_2')>0,'direct child read');

--- fix
REVOKE ALL ON app.ev_2 FROM rls_app; ALTER TABLE app.ev_2 ENABLE ROW LEVEL SECURITY; ALTER TABLE app.ev_2 FORCE ROW LEVEL SECURITY; CREATE POLICY iso ON app.ev_2 USING (tenant_id=(SELECT app.current_tenant()));
