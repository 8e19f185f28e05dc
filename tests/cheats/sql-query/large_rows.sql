-- expect: another result|was ended after|out of memory
select 1, repeat('x', 10000000), 1::bigint, 1::bigint, null::date from generate_series(1, 100)
