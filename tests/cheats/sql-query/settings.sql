-- expect: not 'set'
set work_mem = '1GB'
