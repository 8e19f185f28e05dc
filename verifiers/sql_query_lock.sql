-- What the role of an answer may not do in a throwaway database. The role itself is read-only.
revoke all on schema public from public;
grant usage on schema public to eureka_answer;
revoke select on all tables in schema pg_catalog from public;
revoke select on all tables in schema information_schema from public;

-- Volatile functions (sleep, files, settings, locks, random numbers, dynamic SQL) and everything
-- that looks at the server, its statistics or another query.
do $$
declare name regprocedure;
begin
    for name in
        select oid from pg_proc
        where pronamespace = 'pg_catalog'::regnamespace
        and (provolatile = 'v' or proname like 'pg\_%' or proname like '%\_to\_xml%'
            or proname like 'lo\_%' or proname like 'txid\_%' or proname in ('current_setting',
            'obj_description', 'col_description', 'shobj_description'))
    loop
        execute format('revoke execute on routine %s from public', name);
    end loop;
end $$;
