-- expect: not 'set'
/* /* */ select */ set jit = on
