-- expect: not 'declare'
declare c cursor for select 1
