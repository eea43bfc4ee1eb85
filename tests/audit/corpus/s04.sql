-- temp table left on the pooled connection

--- setup
SELECT 1;

--- attack
--- as rls_app
BEGIN; SELECT set_config('app.tenant_id','2',true); CREATE TEMP TABLE scratch AS SELECT * FROM app.project; COMMIT;
BEGIN; SELECT set_config('app.tenant_id','1',true); SELECT lab.v(lab.n('select 1 from scratch where tenant_id=2')>0,'temp table of tenant 2 read by tenant 1 on the same session'); COMMIT;

--- fix
DO $$ BEGIN EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database()); END $$;
