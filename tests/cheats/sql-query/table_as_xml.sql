-- expect: permission denied for function table_to_xml
select table_to_xml('orders', true, true, '')
