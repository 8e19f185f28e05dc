-- expect: not 'copy'
copy (select 1) to program 'touch /tmp/owned'
