-- expect: permission denied for function set_config
select set_config('role', 'postgres', false)
