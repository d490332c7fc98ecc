-- name: lock_migrations
-- One migration at a time in this database; ends with the transaction.
SELECT pg_advisory_xact_lock($1);

-- name: version_table
-- NULL before the first migration.
SELECT to_regclass('docray_migrations.alembic_version');

-- name: present_version
-- The version the database has.
SELECT version_num FROM docray_migrations.alembic_version;

-- name: make_roles
-- The roles, where they are not there yet. Time-outs belong to the role, so that they hold behind a pooler too. The migrating role may act as the owners.
DO $$
DECLARE
    wanted text[] := ARRAY[
        'docray_owner NOLOGIN',  -- owns schema and tables
        'docray_maint NOLOGIN BYPASSRLS',  -- owns the functions that see all tenants, and nothing else
        'docray_app LOGIN',  -- the gateway
        'docray_worker LOGIN'];  -- ingest workers
    one text;
    name text;
BEGIN
    FOREACH one IN ARRAY wanted LOOP
        name := split_part(one, ' ', 1);
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
                EXECUTE 'CREATE ROLE ' || one;
                IF one LIKE '% LOGIN' THEN
                    EXECUTE format('ALTER ROLE %I SET statement_timeout = %L', name, '5s');
                    EXECUTE format('ALTER ROLE %I SET lock_timeout = %L', name, '2s');
                    EXECUTE format('ALTER ROLE %I SET idle_in_transaction_session_timeout = %L', name, '10s');
                END IF;
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;  -- made at this moment for another database of the server
        END;
        IF name IN ('docray_owner', 'docray_maint') AND NOT pg_has_role(current_user, name, 'SET') THEN
            EXECUTE format('GRANT %I TO CURRENT_USER WITH INHERIT FALSE, SET TRUE', name);
        END IF;
    END LOOP;
END
$$;

-- name: make_schemas
-- Where docray's tables are, and where alembic notes the version, out of the application's sight.
CREATE SCHEMA IF NOT EXISTS docray AUTHORIZATION docray_owner;
CREATE SCHEMA IF NOT EXISTS docray_migrations;
