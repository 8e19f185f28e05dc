-- expect: read-only transaction|permission denied
with x as (insert into customers values (0, 'x', now()) returning id) select id from x
