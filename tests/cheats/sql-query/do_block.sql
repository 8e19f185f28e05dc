-- expect: not 'do'
do $$ begin perform pg_sleep(10); end $$
