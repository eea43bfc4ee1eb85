-- rewrite RULE (DO ALSO) copies rows to an unprotected table with the owner's rights

--- setup
CREATE TABLE app.log(s text); ALTER TABLE app.log OWNER TO rls_owner; GRANT SELECT ON app.log TO rls_app; CREATE RULE cp AS ON INSERT TO app.project DO ALSO INSERT INTO app.log VALUES (new.secret);

--- attack
--- as rls_app
SET app.tenant_id='1';
SET app.tenant_id='2'; INSERT INTO app.project(name,secret) VALUES ('n','victim-new'); SET app.tenant_id='1'; SELECT lab.v(lab.n('select 1 from app.log where s=''victim-new''')>0,'rule copied victim row');

--- fix
DROP RULE cp ON app.project; TRUNCATE app.log; REVOKE SELECT ON app.log FROM rls_app;
