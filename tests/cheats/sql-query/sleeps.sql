-- expect: permission denied for function pg_sleep
select pg_sleep(10)
