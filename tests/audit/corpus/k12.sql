-- relation sizes / reltuples / pg_stat_user_tables counters: cross-tenant volume (per-tenant partitions = per-tenant volume). No SQL mends it

--- setup
CREATE TABLE app.ev(tenant_id int NOT NULL, d text) PARTITION BY LIST(tenant_id); CREATE TABLE app.ev_2 PARTITION OF app.ev FOR VALUES IN (2); ALTER TABLE app.ev ENABLE ROW LEVEL SECURITY; ALTER TABLE app.ev FORCE ROW LEVEL SECURITY; ALTER TABLE app.ev_2 ENABLE ROW LEVEL SECURITY;ALTER TABLE app.ev_2 FORCE ROW LEVEL SECURITY; CREATE POLICY iso ON app.ev USING (tenant_id=(SELECT app.current_tenant())); GRANT SELECT ON app.ev TO rls_app; INSERT INTO app.ev SELECT 2,'x' FROM generate_series(1,1000); ANALYZE app.ev_2;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n($q$select 1 from pg_class where relname='ev_2' and reltuples=1000$q$)>0,'reltuples gives tenant 2''s exact row count; size='||pg_relation_size('app.ev_2'));

--- fix
SELECT 1;
