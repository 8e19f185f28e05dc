-- expect: another result: columns
select E'\u0001'
