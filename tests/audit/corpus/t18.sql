-- policy trusts a lookup table the app role may write (membership self-grant)

--- setup
CREATE TABLE app.membership(user_id int, tenant_id int); INSERT INTO app.membership VALUES (10,1),(20,2); GRANT SELECT,INSERT ON app.membership TO rls_app;
DROP POLICY iso ON app.project; CREATE POLICY iso ON app.project USING (tenant_id IN (SELECT m.tenant_id FROM app.membership m WHERE m.user_id = nullif(current_setting('app.user_id',true),'')::int));

--- attack
--- as rls_app
SET app.tenant_id='1';
SET app.user_id='10'; SELECT 'before: '||lab.n('select 1 from app.project where tenant_id=2'); SELECT lab.x('INSERT INTO app.membership VALUES (10,2)');
SELECT lab.v(lab.n('select 1 from app.project where tenant_id=2')>0, 'rows of tenant 2 visible: '||lab.n('select 1 from app.project where tenant_id=2'));

--- fix
DELETE FROM app.membership WHERE user_id=10 AND tenant_id=2; REVOKE INSERT ON app.membership FROM rls_app;
