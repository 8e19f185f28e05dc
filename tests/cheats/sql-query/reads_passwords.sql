-- expect: permission denied
select * from pg_authid
