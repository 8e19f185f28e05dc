-- expect: permission denied for function pg_read_file
select pg_read_file('/etc/passwd')
