-- EXCLUDE without the tenant column: one tenant's booking keeps all others out, and tells of it

--- setup
CREATE EXTENSION btree_gist; SET ROLE rls_owner; CREATE TABLE app.booking(tenant_id int NOT NULL, id int NOT NULL, room int NOT NULL, during int4range NOT NULL, PRIMARY KEY (tenant_id, id), CONSTRAINT one_at_a_time EXCLUDE USING gist (room WITH =, during WITH &&) WHERE (room > 0)); ALTER TABLE app.booking ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY p ON app.booking USING (tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')::int)); GRANT SELECT, INSERT ON app.booking TO rls_app; RESET ROLE; INSERT INTO app.booking VALUES (2, 1, 7, '[3,5)');

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.x($$INSERT INTO app.booking VALUES (1,1,7,'[4,6)')$$) LIKE '23P01%', lab.x($$INSERT INTO app.booking VALUES (1,1,7,'[4,6)')$$));

--- fix
ALTER TABLE app.booking DROP CONSTRAINT one_at_a_time, ADD CONSTRAINT one_at_a_time EXCLUDE USING gist (tenant_id WITH =, room WITH =, during WITH &&) WHERE (room > 0);
