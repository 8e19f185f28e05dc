select c.id, c.region,
    (select count(*) from orders o where o.customer_id = c.id and o.status = 'paid') as orders,
    (select coalesce(sum(o.cents), 0) from orders o
     where o.customer_id = c.id and o.status = 'paid') as cents,
    (select max(o.placed) from orders o where o.customer_id = c.id) as last_order
from customers c
where (select count(*) from orders o where o.customer_id = c.id and o.status = 'paid') >= 2
