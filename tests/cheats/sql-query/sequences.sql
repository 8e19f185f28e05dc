-- expect: does not exist|permission denied
select nextval('s')
