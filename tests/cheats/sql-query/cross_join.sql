-- expect: was ended after
select count(*) from orders a, orders b, orders c, orders d
