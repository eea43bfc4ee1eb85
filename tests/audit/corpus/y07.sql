-- a table that is partitioned by hash, whose partitions nobody may name, with what it was analyzed for - NOT a hole

--- setup
CREATE TABLE app.ev(tenant_id int NOT NULL, id bigint NOT NULL, state text, PRIMARY KEY (tenant_id, id)) PARTITION BY HASH (tenant_id); CREATE TABLE app.ev_0 PARTITION OF app.ev FOR VALUES WITH (MODULUS 2, REMAINDER 0); CREATE TABLE app.ev_1 PARTITION OF app.ev FOR VALUES WITH (MODULUS 2, REMAINDER 1);
ALTER TABLE app.ev ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY iso ON app.ev USING (tenant_id = (SELECT app.current_tenant())); GRANT SELECT ON app.ev TO rls_app; INSERT INTO app.ev SELECT g%5, g, CASE WHEN g%3=0 THEN 'open' ELSE 'shut' END FROM generate_series(1,1000) AS g; INSERT INTO app.project(tenant_id,name) SELECT 1+g%2, 'name '||g FROM generate_series(1,1000) AS g; ANALYZE;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n('select 1 from app.ev_0')>0 OR lab.n('select 1 from app.ev where tenant_id=2')>0,'rows of tenant 2');

--- fix
SELECT 1;
