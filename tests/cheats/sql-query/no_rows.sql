-- expect: another result: 0 rows
select id, region, 1::bigint as orders, 1::bigint as cents, joined as last_order from customers where false
