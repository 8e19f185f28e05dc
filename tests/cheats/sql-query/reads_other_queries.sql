-- expect: permission denied
select query from pg_stat_activity
