#!/usr/bin/env bash
# Roles and databases, made once, when PostgreSQL starts on an empty volume. A role can touch its own database only.
set -euo pipefail

psql --set ON_ERROR_STOP=1 --no-psqlrc --username "$POSTGRES_USER" --dbname postgres \
    --set register_password="$REGISTER_PASSWORD" --set registry_password="$REGISTRY_PASSWORD" <<'SQL'
create role muster login password :'register_password';
create database register owner muster;
revoke all on database register from public;
create database operations owner muster;
revoke all on database operations from public;

create role registry login password :'registry_password';
create database registry owner registry;
revoke all on database registry from public;
SQL
