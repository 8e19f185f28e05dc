-- expect: permission denied for function lo_import
select lo_import('/etc/passwd')
