-- PREPARE TRANSACTION: any tenant's session (same role) can commit/rollback another tenant's prepared tx

--- setup
SELECT 1;

--- attack
--- as rls_app
BEGIN; SELECT set_config('app.tenant_id','2',true); UPDATE app.project SET name='x'; PREPARE TRANSACTION 'victim2pc';
--- as rls_app
SET app.tenant_id='1';
ROLLBACK PREPARED 'victim2pc';
SELECT lab.v(lab.n('select 1 from pg_prepared_xacts')=0,'tenant 1 rolled back tenant 2''s prepared transaction');

--- fix
SELECT 1;
