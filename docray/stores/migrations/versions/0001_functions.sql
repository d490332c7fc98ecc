-- Functions. First those that run with the caller's own rights, then those of docray_maint, who sees every tenant: each of them does
-- one thing, names its search path and is granted to one role.
SET LOCAL ROLE docray_owner;

-- Ends a generation as failed: the reason, a purge of what it had written beyond its blob, the document's new version, an audit row.
-- False when it is not in work any more, or another lease holds it (p_fence NULL: any).
CREATE FUNCTION docray.fail_generation(
    p_tenant uuid, p_document uuid, p_generation integer, p_fence bigint, p_code text, p_message text, p_retryable boolean, p_actor text
) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, docray, pg_temp
AS $$
DECLARE
    before docray.generations;
BEGIN
    PERFORM 1 FROM docray.documents d WHERE d.tenant_id = p_tenant AND d.id = p_document FOR UPDATE;
    SELECT * INTO before FROM docray.generations g
     WHERE g.tenant_id = p_tenant AND g.document_id = p_document AND g.generation = p_generation
       AND g.state IN ('queued', 'parsed', 'embedded', 'indexed') AND (p_fence IS NULL OR g.fence = p_fence)
       FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE docray.generations g
       SET state = 'failed', failure_code = p_code, failure_message = p_message, failure_retryable = p_retryable,
           lease_owner = NULL, lease_until = NULL, fence = fence + 1
     WHERE g.tenant_id = p_tenant AND g.document_id = p_document AND g.generation = p_generation;
    IF before.state <> 'queued' THEN
        INSERT INTO docray.purges AS p (tenant_id, id, document_id, generation)
        VALUES (p_tenant, gen_random_uuid(), p_document, p_generation)
        ON CONFLICT ON CONSTRAINT purges_order DO UPDATE SET fence = p.fence + 1, next_try_at = clock_timestamp(), lease_until = NULL;
    END IF;
    UPDATE docray.documents d
       SET state = CASE WHEN live_generation IS NULL THEN 'failed' ELSE state END, version = version + 1, updated_at = clock_timestamp()
     WHERE d.tenant_id = p_tenant AND d.id = p_document AND d.deleted_at IS NULL;
    INSERT INTO docray.audit_log (tenant_id, principal_kind, action, object_kind, object_id, details)
    VALUES (p_tenant, 'worker', 'document.failed', 'document', p_document,
            jsonb_build_object('generation', p_generation, 'code', p_code, 'worker', p_actor));
    RETURN true;
END
$$;
REVOKE ALL ON FUNCTION docray.fail_generation(uuid, uuid, integer, bigint, text, text, boolean, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION docray.fail_generation(uuid, uuid, integer, bigint, text, text, boolean, text) TO docray_worker, docray_maint;

-- Makes the partitions of this month and the next ones. Only the tables' owner can, so it runs as docray_owner.
CREATE FUNCTION docray.make_partitions(p_months integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, docray, pg_temp
AS $$
DECLARE
    parent text;
    month  timestamp;
    name   text;
    made   integer := 0;
BEGIN
    FOREACH parent IN ARRAY ARRAY['audit_log', 'usage'] LOOP
        FOR step IN 0 .. p_months LOOP
            month := date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => step);
            name := format('%s_%s', parent, to_char(month, 'YYYY_MM'));
            CONTINUE WHEN to_regclass('docray.' || name) IS NOT NULL;
            BEGIN
                EXECUTE format('CREATE TABLE docray.%I PARTITION OF docray.%I FOR VALUES FROM (%L) TO (%L)', name, parent,
                               month || '+00', (month + interval '1 month') || '+00');
                CALL docray.isolate_tenants(('docray.' || name)::regclass);
                made := made + 1;
            EXCEPTION
                WHEN duplicate_table OR unique_violation THEN NULL;  -- another process was first
                WHEN check_violation THEN NULL;  -- nobody made it in time: this month's rows stay in the default partition
            END;
        END LOOP;
    END LOOP;
    RETURN made;
END
$$;
REVOKE ALL ON FUNCTION docray.make_partitions(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION docray.make_partitions(integer) TO docray_worker;
SELECT docray.make_partitions(3);

-- What the functions below need of the tables.
GRANT SELECT, INSERT ON docray.tenants, docray.users, docray.api_keys TO docray_maint;
GRANT UPDATE (last_used_at) ON docray.api_keys TO docray_maint;
GRANT SELECT ON docray.documents, docray.generations, docray.purges TO docray_maint;
GRANT UPDATE ON docray.documents, docray.generations, docray.purges TO docray_maint;
GRANT INSERT ON docray.purges, docray.audit_log TO docray_maint;
GRANT SELECT, INSERT, UPDATE ON docray.queue_turns TO docray_maint;
GRANT SELECT, DELETE ON docray.idempotency_keys TO docray_maint;
GRANT CREATE ON SCHEMA docray TO docray_maint;

SET LOCAL ROLE docray_maint;

-- The live key with this hash and whose it is; no row for unknown, expired and revoked alike. Notes its use once a minute.
CREATE FUNCTION docray.find_api_key(p_secret_hash bytea)
    RETURNS TABLE (id uuid, name text, tenant_id uuid, tenant_name text, scopes text[], operator boolean, user_id uuid)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, docray, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    hit record;
BEGIN
    SELECT k.id, k.name, k.tenant_id, t.name AS tenant_name, k.scopes, k.operator, k.user_id, k.last_used_at INTO hit
      FROM docray.api_keys k JOIN docray.tenants t ON t.tenant_id = k.tenant_id
     WHERE k.secret_hash = p_secret_hash AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp());
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF hit.last_used_at IS NULL OR hit.last_used_at < clock_timestamp() - interval '1 minute' THEN
        UPDATE docray.api_keys k SET last_used_at = clock_timestamp()
         WHERE k.tenant_id = hit.tenant_id
           AND k.id = (SELECT w.id FROM docray.api_keys w WHERE w.tenant_id = hit.tenant_id AND w.id = hit.id FOR UPDATE SKIP LOCKED);
    END IF;
    RETURN QUERY SELECT hit.id, hit.name, hit.tenant_id, hit.tenant_name, hit.scopes, hit.operator, hit.user_id;
END
$$;

-- A tenant with its first user and key, for the platform's operator. unique_violation of `tenants_name` when the name is taken.
CREATE FUNCTION docray.create_tenant(
    p_tenant uuid, p_name text, p_user uuid, p_key uuid, p_key_name text, p_scopes text[], p_operator boolean, p_prefix text,
    p_secret_hash bytea, p_expires_at timestamptz
) RETURNS timestamptz
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, docray, pg_temp
AS $$
DECLARE
    made timestamptz;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('docray tenant name', 0));
    IF EXISTS (SELECT FROM docray.tenants t WHERE t.name = p_name) THEN
        RAISE unique_violation USING MESSAGE = 'a tenant has this name', CONSTRAINT = 'tenants_name';
    END IF;
    INSERT INTO docray.tenants (tenant_id, name) VALUES (p_tenant, p_name) RETURNING created_at INTO made;
    INSERT INTO docray.users (tenant_id, id, name) VALUES (p_tenant, p_user, p_name);
    INSERT INTO docray.api_keys (tenant_id, id, user_id, name, scopes, operator, prefix, secret_hash, expires_at)
    VALUES (p_tenant, p_key, p_user, p_key_name, p_scopes, p_operator, p_prefix, p_secret_hash, p_expires_at);
    RETURN made;
END
$$;

-- The tenant of a name.
CREATE FUNCTION docray.find_tenant(p_name text)
    RETURNS TABLE (tenant_id uuid, name text, created_at timestamptz, corpus_epoch bigint)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, docray, pg_temp
AS $$
    SELECT t.tenant_id, t.name, t.created_at, t.corpus_epoch FROM docray.tenants t WHERE t.name = p_name;
$$;

-- Documents of the transaction's tenant whose name or title has these words. Runs past row-level security because that keeps the
-- full-text index out of use (`@@` is not leakproof); so it compares the tenant itself.
CREATE FUNCTION docray.documents_with_words(p_words tsquery) RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, docray, pg_temp
AS $$
    SELECT d.id FROM docray.documents d
     WHERE d.tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid AND d.deleted_at IS NULL AND d.words @@ p_words;
$$;

-- Leases the next job of the tenant whose turn it is: in work, due, in nobody's hands, with no purge of it outstanding. An expired
-- lease is taken over; a generation taken over too often fails. Every lease raises the fence.
CREATE FUNCTION docray.lease_job(p_worker text, p_lease_s double precision, p_max_takeovers integer, p_crash_message text)
    RETURNS TABLE (tenant_id uuid, document_id uuid, generation integer, state text, fence bigint, attempt integer, lease_until timestamptz,
                   blob_key text, filename text, title text, size_bytes bigint)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, docray, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    turn uuid;
    job  docray.generations;
BEGIN
    FOR turn IN
        WITH RECURSIVE busy (tenant_id) AS (  -- the tenants with jobs, by one index probe each
            (SELECT g.tenant_id FROM docray.generations g WHERE g.state IN ('queued', 'parsed', 'embedded', 'indexed')
              ORDER BY g.tenant_id LIMIT 1)
            UNION ALL
            SELECT (SELECT g.tenant_id FROM docray.generations g
                     WHERE g.state IN ('queued', 'parsed', 'embedded', 'indexed') AND g.tenant_id > busy.tenant_id
                     ORDER BY g.tenant_id LIMIT 1)
              FROM busy WHERE busy.tenant_id IS NOT NULL
        )
        SELECT busy.tenant_id FROM busy LEFT JOIN docray.queue_turns t ON t.tenant_id = busy.tenant_id
         WHERE busy.tenant_id IS NOT NULL ORDER BY t.leased_at NULLS FIRST
    LOOP
        LOOP
            SELECT g.* INTO job FROM docray.generations g
             WHERE g.tenant_id = turn AND g.state IN ('queued', 'parsed', 'embedded', 'indexed')
               AND g.next_try_at <= clock_timestamp() AND (g.lease_until IS NULL OR g.lease_until <= clock_timestamp())
               AND NOT EXISTS (SELECT FROM docray.purges p WHERE p.tenant_id = g.tenant_id AND p.document_id = g.document_id
                                  AND p.generation = g.generation)
             ORDER BY g.next_try_at LIMIT 1 FOR UPDATE OF g SKIP LOCKED;
            EXIT WHEN NOT FOUND;
            IF job.lease_owner IS NOT NULL AND job.takeovers >= p_max_takeovers THEN
                -- Documents are locked before generations everywhere else; where this one is taken, the next call will do it.
                PERFORM 1 FROM docray.documents d WHERE d.tenant_id = turn AND d.id = job.document_id FOR UPDATE SKIP LOCKED;
                EXIT WHEN NOT FOUND;
                PERFORM docray.fail_generation(turn, job.document_id, job.generation, NULL, 'parser_crash', p_crash_message, false, p_worker);
                CONTINUE;
            END IF;
            INSERT INTO docray.queue_turns AS t (tenant_id, leased_at) VALUES (turn, clock_timestamp())
            ON CONFLICT (tenant_id) DO UPDATE SET leased_at = excluded.leased_at;
            RETURN QUERY
            UPDATE docray.generations g
               SET fence = g.fence + 1, lease_owner = p_worker, lease_until = clock_timestamp() + make_interval(secs => p_lease_s),
                   takeovers = g.takeovers + (g.lease_owner IS NOT NULL)::integer
              FROM docray.documents d
             WHERE g.tenant_id = job.tenant_id AND g.document_id = job.document_id AND g.generation = job.generation
               AND d.tenant_id = g.tenant_id AND d.id = g.document_id
            RETURNING g.tenant_id, g.document_id, g.generation, g.state, g.fence, g.attempt, g.lease_until, g.blob_key,
                      coalesce(g.filename, d.filename), d.title, g.size_bytes;
            RETURN;
        END LOOP;
    END LOOP;
END
$$;

-- Leases the next purge that is due. One of a generation that an ingest worker still holds waits until that lease has run out.
CREATE FUNCTION docray.lease_purge(p_worker text, p_lease_s double precision)
    RETURNS TABLE (id uuid, tenant_id uuid, document_id uuid, generation integer, fence bigint)
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, docray, pg_temp
AS $$
    UPDATE docray.purges p
       SET fence = p.fence + 1, attempts = p.attempts + 1, lease_owner = p_worker,
           lease_until = clock_timestamp() + make_interval(secs => p_lease_s)
     WHERE (p.tenant_id, p.id) = (
        SELECT due.tenant_id, due.id FROM docray.purges due
         WHERE due.next_try_at <= clock_timestamp() AND (due.lease_until IS NULL OR due.lease_until <= clock_timestamp())
           AND NOT EXISTS (SELECT FROM docray.generations g
                            WHERE g.tenant_id = due.tenant_id AND g.document_id = due.document_id
                              AND (due.generation IS NULL OR g.generation = due.generation) AND g.lease_until > clock_timestamp())
         ORDER BY due.next_try_at LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING p.id, p.tenant_id, p.document_id, p.generation, p.fence;
$$;

-- Those of the keys that a generation of any tenant owns, for the sweep of blobs without a row.
CREATE FUNCTION docray.known_blobs(p_keys text[]) RETURNS SETOF text
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, docray, pg_temp
AS $$
    SELECT g.blob_key FROM docray.generations g WHERE g.blob_key = ANY (p_keys);
$$;

-- How many generations of all tenants wait for a worker: what the workers' autoscaling goes by.
CREATE FUNCTION docray.count_waiting_jobs() RETURNS bigint
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, docray, pg_temp
AS $$
    SELECT count(*) FROM docray.generations g
     WHERE g.state IN ('queued', 'parsed', 'embedded', 'indexed') AND (g.lease_until IS NULL OR g.lease_until <= clock_timestamp());
$$;

-- Forgets idempotency keys past their time, of every tenant.
CREATE FUNCTION docray.drop_idempotency_keys(p_keep_s double precision) RETURNS bigint
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, docray, pg_temp
AS $$
    WITH gone AS (
        DELETE FROM docray.idempotency_keys k WHERE k.created_at < clock_timestamp() - make_interval(secs => p_keep_s) RETURNING 1
    )
    SELECT count(*) FROM gone;
$$;

REVOKE ALL ON FUNCTION
    docray.find_api_key(bytea), docray.create_tenant(uuid, text, uuid, uuid, text, text[], boolean, text, bytea, timestamptz),
    docray.find_tenant(text), docray.documents_with_words(tsquery), docray.lease_job(text, double precision, integer, text),
    docray.lease_purge(text, double precision), docray.known_blobs(text[]), docray.count_waiting_jobs(),
    docray.drop_idempotency_keys(double precision) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    docray.find_api_key(bytea), docray.create_tenant(uuid, text, uuid, uuid, text, text[], boolean, text, bytea, timestamptz),
    docray.find_tenant(text), docray.documents_with_words(tsquery) TO docray_app;
GRANT EXECUTE ON FUNCTION
    docray.lease_job(text, double precision, integer, text), docray.lease_purge(text, double precision), docray.known_blobs(text[]),
    docray.count_waiting_jobs(), docray.drop_idempotency_keys(double precision) TO docray_worker;

RESET ROLE;
REVOKE CREATE ON SCHEMA docray FROM docray_maint;
