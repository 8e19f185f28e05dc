-- expect: was ended after|more than the|temporary file
with recursive a (x) as (select 1 union all select x + 1 from a) select count(*) from a
