-- untrusted language: USAGE is checked against superuser, never granted by default - NOT a hole unless GRANTed (GRANT is refused)

--- setup
CREATE FUNCTION lab.dummy_handler() RETURNS language_handler LANGUAGE internal AS 'fmgr_internal_validator'; 
CREATE FUNCTION lab.h() RETURNS language_handler AS '$libdir/plpgsql','plpgsql_call_handler' LANGUAGE C; CREATE LANGUAGE fake_untrusted HANDLER lab.h;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.x($$CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE fake_untrusted AS 'begin return 1; end'$$) LIKE 'ok%', lab.x($$CREATE FUNCTION pg_temp.f2() RETURNS int LANGUAGE fake_untrusted AS 'begin return 1; end'$$));

--- fix
DROP LANGUAGE fake_untrusted;
