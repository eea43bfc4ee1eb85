-- materialized view over tenant tables

--- setup
CREATE MATERIALIZED VIEW app.mv AS SELECT tenant_id, name, secret FROM app.project; GRANT SELECT ON app.mv TO rls_app;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n('select 1 from app.mv where tenant_id=2')>0,'matview has no RLS');

--- fix
REVOKE ALL ON app.mv FROM rls_app; CREATE VIEW app.mv_safe WITH (security_barrier) AS SELECT * FROM app.mv WHERE tenant_id = (SELECT app.current_tenant()); ALTER VIEW app.mv_safe OWNER TO rls_owner; GRANT SELECT ON app.mv TO rls_owner; GRANT SELECT ON app.mv_safe TO rls_app;
