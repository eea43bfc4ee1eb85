-- same '' with ::int cast: the query errors (22P02) after the first tx - fail closed, availability bug

--- setup
DROP POLICY iso ON app.project; CREATE POLICY iso ON app.project USING (tenant_id = (SELECT current_setting('app.tenant_id',true)::int));

--- attack
--- as rls_app
BEGIN; SELECT set_config('app.tenant_id','1',true); COMMIT; SELECT lab.v(lab.n('select 1 from app.project')>0, lab.x('select count(*) from app.project'));

--- fix
ALTER POLICY iso ON app.project USING (tenant_id = (SELECT app.current_tenant()));
