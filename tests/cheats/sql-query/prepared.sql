-- expect: not 'prepare'
prepare q as select 1
