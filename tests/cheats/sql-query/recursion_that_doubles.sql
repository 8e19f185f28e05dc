-- expect: was ended after|temporary file
with recursive a (x) as (select 1 union all select b.x from a, (values (1), (2)) as b (x)) select sum(x) from a
