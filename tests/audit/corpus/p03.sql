-- the application role owns a publication, of which another service is told what it may be told

--- setup
CREATE PUBLICATION of_one FOR TABLE app.project WITH (publish = 'insert'); CREATE ROLE rls_warehouse LOGIN REPLICATION; ALTER PUBLICATION of_one OWNER TO rls_app;

--- attack
--- as rls_app
ALTER PUBLICATION of_one SET (publish = 'insert, update');
SELECT lab.v(pubupdate,'what it sends was changed') FROM pg_publication WHERE pubname='of_one';

--- fix
ALTER PUBLICATION of_one OWNER TO rls_owner;
