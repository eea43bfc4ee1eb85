-- names that need quotes, a domain over a number, and a policy that lets drafts through

--- config
column | app."Odd Table" | Tenant "Id

--- setup
CREATE DOMAIN app."Key" AS bigint CHECK (VALUE > 0); CREATE TABLE app."Odd Table"("Tenant ""Id" app."Key" NOT NULL, "is Draft" boolean NOT NULL); INSERT INTO app."Odd Table" VALUES (1,false),(2,true); GRANT SELECT ON app."Odd Table" TO rls_app;
ALTER TABLE app."Odd Table" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY "i'so" ON app."Odd Table" USING ("Tenant ""Id" = (SELECT app.current_tenant()) OR "is Draft");

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(lab.n('select 1 from app."Odd Table" where "Tenant ""Id"=2')>0,'a draft of tenant 2');

--- fix
CREATE POLICY always ON app."Odd Table" AS RESTRICTIVE USING ("Tenant ""Id" = (SELECT app.current_tenant()));
