-- expect: permission denied for function random
select random()
