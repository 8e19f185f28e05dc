-- expect: not 'explain'
explain analyze select 1
