-- expect: multiple commands
select 1; commit; create table t (x int)
