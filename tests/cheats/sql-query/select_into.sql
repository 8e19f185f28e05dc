-- expect: read-only transaction
select * into temporary cache from orders
