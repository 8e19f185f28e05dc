-- expect: read-only transaction|permission denied
select * from orders for update
