-- expect: syntax error
select 1) as x; drop table orders; select (1
