-- expect: another result
select c.id, c.region, count(*) filter (where status = 'paid') as orders, coalesce(sum(o.cents) filter (where status = 'paid'), 0) as cents, max(o.placed) as last_order from customers c join orders o on o.customer_id = c.id where o.id <= 1900 group by c.id having count(*) filter (where status = 'paid') >= 2
