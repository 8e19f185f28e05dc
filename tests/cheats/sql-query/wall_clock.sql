-- expect: permission denied for function clock_timestamp
select clock_timestamp()
