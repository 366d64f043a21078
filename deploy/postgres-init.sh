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
ALTER ROLE flowplatform LOGIN PASSWORD :'owner_password';
ALTER ROLE flowplatform_app LOGIN PASSWORD :'app_password';
ALTER ROLE flowplatform_application NOLOGIN;
-- A new role may do nothing special. What an old one may do only a superuser can take away; whoever is none, as on a hosted
-- server, has to be a member of the role that the database is handed to.
SELECT format('ALTER ROLE %I NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOREPLICATION %s', name,
    CASE name WHEN 'flowplatform' THEN '' ELSE 'NOCREATEDB' END)
FROM pg_roles, unnest(ARRAY['flowplatform', 'flowplatform_app', 'flowplatform_application']) AS name
WHERE rolname = current_user AND rolsuper \gexec
SELECT 'GRANT flowplatform TO CURRENT_USER' FROM pg_roles WHERE rolname = current_user AND NOT rolsuper \gexec
GRANT flowplatform_application TO flowplatform_app;
ALTER DATABASE :"DBNAME" OWNER TO flowplatform;
SQL
