-- expect: permission denied for function query_to_xml
select query_to_xml('select 1', true, true, '')
