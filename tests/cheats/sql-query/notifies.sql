-- expect: not 'notify'
notify channel
