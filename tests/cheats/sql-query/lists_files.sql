-- expect: permission denied for function pg_ls_dir
select pg_ls_dir('/')
