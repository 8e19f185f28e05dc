-- expect: permission denied for function set_config
select set_config('statement_timeout', '0', false)
