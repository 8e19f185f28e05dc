-- expect: read-only transaction|permission denied
with x as (delete from orders returning id) select id from x
