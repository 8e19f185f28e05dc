-- expect: another result: columns
select c.id as customer, c.region, count(*) filter (where o.status = 'paid') as orders, coalesce(sum(o.cents) filter (where o.status = 'paid'), 0) as cents, max(o.placed) as last_order from customers c join orders o on o.customer_id = c.id group by c.id having count(*) filter (where o.status = 'paid') >= 2
