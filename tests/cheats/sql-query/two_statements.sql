-- expect: multiple commands
select 1; select 2
