-- expect: permission denied for function pg_notify
select pg_notify('a', 'b')
