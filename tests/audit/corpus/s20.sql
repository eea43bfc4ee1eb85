-- parallel workers see the GUC - NOT a hole

--- setup
INSERT INTO app.project(tenant_id,name) SELECT 1+g%2,'n' FROM generate_series(1,20000) g; ANALYZE app.project;

--- attack
--- as rls_app
SET app.tenant_id='1';
SET force_parallel_mode=on; SET parallel_setup_cost=0; SET parallel_tuple_cost=0; SET min_parallel_table_scan_size=0; SET max_parallel_workers_per_gather=2;
SELECT lab.v((SELECT count(*) FROM app.project WHERE tenant_id=2)>0 OR (SELECT count(*) FROM app.project)<>10001,'own rows '||(SELECT count(*) FROM app.project));

--- fix
SELECT 1;
