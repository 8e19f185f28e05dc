-- expect: not 'update'
update pg_class set relname = 'x'
