#!/usr/bin/env bash
# The roles of the database: one that owns the tables, for migrations, and one that the platform works as. That one owns
# nothing and is above no rule, so that row-level security holds it. The superuser is for neither.
#
# The image of PostgreSQL runs this once, when it sets up an empty volume. For new passwords, or on another server, run it
# again (docs/deployment.md): it brings what is there up to date.
#
# What the platform's role may do it may as a member of flowplatform_application: the migrations grant the rights to that.
set -euo pipefail

: "${OWNER_DATABASE_PASSWORD:?the password of flowplatform}" "${APP_DATABASE_PASSWORD:?the password of flowplatform_app}"

psql --set ON_ERROR_STOP=1 --quiet --no-psqlrc --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
SET client_min_messages = warning; -- not that a role is a member already
\getenv owner_password OWNER_DATABASE_PASSWORD
\getenv app_password APP_DATABASE_PASSWORD
SELECT format('CREATE ROLE %I', name)
FROM unnest(ARRAY['flowplatform', 'flowplatform_app', 'flowplatform_application']) AS name
WHERE to_regrole(name) IS NULL \gexec
ALTER ROLE flowplatform LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOREPLICATION PASSWORD :'owner_password';
ALTER ROLE flowplatform_app LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD :'app_password';
ALTER ROLE flowplatform_application NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION;
GRANT flowplatform_application TO flowplatform_app;
ALTER DATABASE :"DBNAME" OWNER TO flowplatform;
SQL
