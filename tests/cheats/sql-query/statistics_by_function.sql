-- expect: permission denied for function pg_stat_get_live_tuples
select pg_stat_get_live_tuples('orders'::regclass)
