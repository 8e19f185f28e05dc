-- expect: another result
select c.id, c.region, count(*) as orders, coalesce(sum(o.cents), 0) as cents, max(o.placed) as last_order from customers c join orders o on o.customer_id = c.id where o.status = 'paid' group by c.id having count(*) >= 2
