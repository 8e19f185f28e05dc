"""The public views: the users' SQL interface, documented column by column.

A view is its select, a comment, and one comment per column; `create` puts them in place, grants
them to the read-only role `eureka_reader` and checks nothing else. Names and columns are API: add
columns at the end, remove none. Views run with their owner's rights, so the tables stay private.
The selects are in the files named view_….py.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from eurekaflow.models.reader import READER
from eurekaflow.models.view_contents import CONTENTS
from eurekaflow.models.view_definitions import ROWS, View
from eurekaflow.models.view_nights import NIGHTS
from eurekaflow.models.view_summaries import SUMMARIES

VIEWS = (*ROWS, *SUMMARIES, *CONTENTS, NIGHTS)

_ROLE = f"""
do $$ begin
    create role {READER} login;
exception when duplicate_object or unique_violation or insufficient_privilege then null;
end $$"""
_LIMIT = f"""
do $$ begin
    alter role {READER} set statement_timeout = '60s';
    alter role {READER} set default_transaction_read_only = on;
    alter role {READER} set idle_in_transaction_session_timeout = '10min';
    alter role {READER} nosuperuser nocreatedb nocreaterole noreplication connection limit 20;
exception when undefined_object or insufficient_privilege or internal_error then null;
end $$"""

# On our own server alone, where nobody else relies on them: what PUBLIC may do in Postgres that
# writes (temporary tables, large objects) or keeps a run from starting (advisory locks).
_HARDEN = """
do $$
declare function regprocedure;
begin
    if current_setting('cluster_name') <> 'eurekaflow' then return; end if;
    execute format('revoke temporary on database %I from public', current_database());
    for function in
        select oid::regprocedure from pg_proc where pronamespace = 'pg_catalog'::regnamespace
            and (proname ~ '^(lo_|lowrite|loread|pg_(try_)?advisory_)')
    loop
        execute format('revoke execute on function %s from public', function);
    end loop;
exception when insufficient_privilege or internal_error then null;
end $$"""


def drop(connection: Connection) -> None:
    """Drop the public views."""
    for view in reversed(VIEWS):
        connection.execute(text(f"drop view if exists public.{view.name}"))


def create(connection: Connection) -> None:
    """Create the public views with their comments, and let the reader role select from them."""
    readable = ensure_reader(connection)
    for view in VIEWS:
        _create(connection, view)
        if readable:
            connection.execute(text(f"grant select on public.{view.name} to {READER}"))
    if readable:
        connection.execute(text(f"grant usage on schema public to {READER}"))


def ensure_reader(connection: Connection) -> bool:
    """Make the read-only role where that is allowed; whether it exists."""
    connection.execute(text(_ROLE))
    connection.execute(text(_LIMIT))
    connection.exec_driver_sql(_HARDEN.replace("%", "%%"))
    return _role_exists(connection)


def _create(connection: Connection, view: View) -> None:
    names = ", ".join(view.columns)
    run = connection.exec_driver_sql
    run(f"create view public.{view.name} ({names}) as {view.select}")
    run(f"comment on view public.{view.name} is {_quoted(view.comment)}")
    for name, words in view.columns.items():
        run(f"comment on column public.{view.name}.{name} is {_quoted(words)}")


def _role_exists(connection: Connection) -> bool:
    sql = text("select 1 from pg_roles where rolname = :name")
    return connection.execute(sql, {"name": READER}).first() is not None


def _quoted(words: str) -> str:
    return "'" + words.replace("'", "''") + "'"
