-- expect: cross-database|does not exist
select * from eureka.public.runs
