-- expect: permission denied for function pg_advisory_lock
select pg_advisory_lock(7302)
