-- STABLE tenant function + prepared plan across tenants and roles - NOT a hole

--- setup
SELECT 1;

--- attack
--- as rls_app
SET plan_cache_mode=force_generic_plan; BEGIN; SELECT set_config('app.tenant_id','2',true); PREPARE q AS SELECT count(*) FROM app.project WHERE tenant_id=2; EXECUTE q; COMMIT;
BEGIN; SELECT set_config('app.tenant_id','1',true); 
EXECUTE q \gset
SELECT lab.v(:count>0,'generic plan re-evaluates the InitPlan: '||:count); COMMIT;

--- fix
SELECT 1;
