-- expect: not 'create'
create index on orders (customer_id)
