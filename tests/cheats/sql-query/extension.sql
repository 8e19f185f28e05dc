-- expect: not 'create'
create extension dblink
