-- expect: not 'here'
Here is the faster query: select 1
