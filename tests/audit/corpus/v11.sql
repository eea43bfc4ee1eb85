-- overbroad EXECUTE: query_to_xml/dblink-style SQL runners are invoker rights - NOT a hole

--- setup
SELECT 1;

--- attack
--- as rls_app
SET app.tenant_id='1';
SELECT lab.v(query_to_xml('select * from app.project where tenant_id=2',true,false,'')::text LIKE '%victim%','query_to_xml');

--- fix
SELECT 1;
