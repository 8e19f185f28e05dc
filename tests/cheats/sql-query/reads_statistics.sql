-- expect: permission denied for table pg_class
select reltuples from pg_class where relname = 'orders'
