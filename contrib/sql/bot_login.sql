-- A login for bots: a member of gateway_app, and nothing more. It owns no table and bypasses no row security.
-- Run it after roles.sql, as a role that may create others, with psql 15 or newer:
--
--   GATEWAY_BOT_PASSWORD="$(openssl rand -hex 32)" psql --file contrib/sql/bot_login.sql
--
-- psql takes the password from the environment, so that it stands in no history and no list of processes.
\set ON_ERROR_STOP on
\getenv password GATEWAY_BOT_PASSWORD
\if :{?password}
\else
    DO $$BEGIN RAISE EXCEPTION 'set GATEWAY_BOT_PASSWORD in the environment of psql first'; END$$;
\endif

SELECT rolsuper AS is_superuser FROM pg_roles WHERE rolname = current_user \gset
BEGIN;
\if :is_superuser
    -- Otherwise the statement, password and all, stands in the server's log if it is refused, or if all are logged.
    SET LOCAL log_statement = 'none';
    SET LOCAL log_min_error_statement = 'panic';
    SET LOCAL log_min_duration_statement = -1;
\endif
CREATE ROLE gateway_bot LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS CONNECTION LIMIT 100
    IN ROLE gateway_app PASSWORD :'password';
COMMIT;
