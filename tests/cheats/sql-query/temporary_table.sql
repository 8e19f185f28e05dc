-- expect: not 'create'
create temporary table cache as select * from orders
