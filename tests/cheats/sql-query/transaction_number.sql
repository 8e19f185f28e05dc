-- expect: permission denied for function
select txid_current()
