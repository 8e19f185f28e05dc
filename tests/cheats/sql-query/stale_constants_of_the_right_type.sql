-- expect: another result
select 1 as id, 'north' as region, 12::bigint as orders, 4711::bigint as cents, date '2024-01-01' as last_order
