#!/bin/sh
# Run once by the Postgres image, when the volume is new: Prefect's own role and database. It is
# no superuser and sees nothing of the archive.
set -eu
psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
    -v password="$PREFECT_DB_PASSWORD" <<'SQL'
create role prefect login password :'password';
create database prefect owner prefect;
SQL
