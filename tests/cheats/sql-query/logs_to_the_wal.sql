-- expect: permission denied for function pg_logical_emit_message
select pg_logical_emit_message(false, 'a', 'b')
