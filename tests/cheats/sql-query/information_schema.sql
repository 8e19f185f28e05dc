-- expect: permission denied
select * from information_schema.tables
