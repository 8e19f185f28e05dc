-- expect: permission denied for function lo_from_bytea
select lo_from_bytea(0, 'kept')
