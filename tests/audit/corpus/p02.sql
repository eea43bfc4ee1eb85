-- a publication for another service, whose role is not one that serves tenants - NOT a hole

--- setup
CREATE ROLE rls_warehouse LOGIN REPLICATION; CREATE PUBLICATION warehouse FOR TABLE app.project;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT pg_create_logical_replication_slot('rls_p02', 'pgoutput');
SELECT lab.v(EXISTS (SELECT FROM pg_replication_slots WHERE slot_name='rls_p02'),'a slot');

--- fix
SELECT 1;
