-- expect: more than the|temporary file|was ended
select i, i::text, i::bigint, i::bigint, null::date from generate_series(1, 1000000000) as i
