-- user-made LEAKPROOF function runs below the security barrier

--- setup
CREATE FUNCTION app.fmt(text) RETURNS boolean LANGUAGE plpgsql LEAKPROOF COST 0.0001 AS $$ BEGIN IF $1 LIKE 'victim%' THEN RAISE EXCEPTION 'got %', $1; END IF; RETURN true; END $$; GRANT EXECUTE ON FUNCTION app.fmt(text) TO rls_app;
DROP POLICY iso ON app.project; CREATE POLICY iso ON app.project USING (tenant_id = app.current_tenant());

--- attack
--- as rls_app
SET app.tenant_id='1'; SET enable_indexscan=off; SET enable_bitmapscan=off;
SELECT lab.v(lab.x('SELECT count(*) FROM app.project WHERE app.fmt(secret)') LIKE '%victim-secret%', 'the function told a secret of tenant 2');

--- fix
ALTER FUNCTION app.fmt(text) NOT LEAKPROOF;
