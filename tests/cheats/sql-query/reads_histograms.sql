-- expect: permission denied
select * from pg_stats
