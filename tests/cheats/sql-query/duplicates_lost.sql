-- expect: another result
select distinct on (c.region) c.id, c.region, 2::bigint as orders, 0::bigint as cents, null::date as last_order from customers c
