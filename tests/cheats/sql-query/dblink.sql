-- expect: does not exist
select * from dblink('host=/tmp', 'select 1') as t (x int)
