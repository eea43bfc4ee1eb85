-- PREPARE TRANSACTION: any tenant's session (same role) can commit or roll back another tenant's. max_prepared_transactions = 0 mends it

--- setup
SELECT 1;

--- attack
--- as rls_app
BEGIN; SELECT set_config('app.tenant_id','2',true); UPDATE app.project SET name='x'; PREPARE TRANSACTION 'victim2pc';
--- as rls_app
SET app.tenant_id='1';
ROLLBACK PREPARED 'victim2pc';
SELECT lab.v(NOT EXISTS (SELECT FROM pg_prepared_xacts WHERE gid='victim2pc'),'tenant 1 rolled back tenant 2''s prepared transaction (gid visible in pg_prepared_xacts)');

--- fix
SELECT 1;
