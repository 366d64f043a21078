#!/usr/bin/env bash
# The role that the platform signs in with: it owns nothing and is above no rule, so that row-level security holds it.
#
# The image of PostgreSQL runs this once, when it sets up an empty volume. For a database that is there already, and for
# a new password, run it again (docs/deployment.md): it brings what is there up to date.
#
# What the role may do it may as a member of flowplatform_application; the migrations grant the rights to that one.
set -euo pipefail

: "${APP_DATABASE_PASSWORD:?the password of flowplatform_app}"

psql --set ON_ERROR_STOP=1 --quiet --no-psqlrc --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
SET client_min_messages = warning; -- not that a role is a member already
\getenv password APP_DATABASE_PASSWORD
SELECT 'CREATE ROLE flowplatform_application' WHERE to_regrole('flowplatform_application') IS NULL \gexec
SELECT 'CREATE ROLE flowplatform_app' WHERE to_regrole('flowplatform_app') IS NULL \gexec
ALTER ROLE flowplatform_application NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION;
ALTER ROLE flowplatform_app LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD :'password';
GRANT flowplatform_application TO flowplatform_app;
SQL
