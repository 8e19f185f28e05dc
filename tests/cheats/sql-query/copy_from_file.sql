-- expect: not 'copy'
copy orders from '/etc/passwd'
