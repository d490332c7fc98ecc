-- Reindexing: one row a run. Its generations are ordinary ones that ordinary workers build, from pages that are stored already; `ready` says
-- that a generation may answer, documents.live_generation which one does. So one that waits for the switch, and one that is kept for a
-- rollback, are `ready` and not live.
SET LOCAL ROLE docray_owner;

-- `model` and `chunker` are the form that everything gets, `model_before` what the tenant's searches used at the start. `place` is how far the
-- planner has come through the documents, `checked_epoch` the corpus in which it found nothing left to plan. `dropping` is the model whose
-- vectors are of no use since the run ended, with its dimension.
CREATE TABLE docray.reindexes (
    tenant_id          uuid NOT NULL REFERENCES docray.tenants,
    id                 uuid NOT NULL,
    state              text NOT NULL DEFAULT 'building' CHECK (state IN ('building', 'switched', 'rolled_back', 'finished')),
    switch             text NOT NULL CHECK (switch IN ('document', 'tenant')),
    collection_id      uuid,
    model              text NOT NULL,
    chunker            text NOT NULL,
    model_before       text NOT NULL,
    place              uuid,
    checked_epoch      bigint,
    dropping           text,
    dropping_dimension integer,
    created_at         timestamptz NOT NULL DEFAULT now(),
    switched_at        timestamptz,
    ended_at           timestamptz,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX reindexes_newest ON docray.reindexes (tenant_id, created_at DESC, id DESC);
CREATE UNIQUE INDEX reindexes_open ON docray.reindexes (tenant_id) WHERE state IN ('building', 'switched');
CREATE INDEX reindexes_work ON docray.reindexes (tenant_id) WHERE state IN ('building', 'switched') OR dropping IS NOT NULL;
CALL docray.isolate_tenants('docray.reindexes');

-- Which model the tenant's searches use; NULL before its first document.
ALTER TABLE docray.tenants ADD COLUMN embedding_model text;

-- `models` are all that have embedded the generation, `chunker` how it was cut. A generation of a reindex is made of the pages of
-- `source_generation`, which was live then; its PDF is that of the upload `content_generation` (NULL: its own).
ALTER TABLE docray.generations
    ADD COLUMN models             text[] NOT NULL DEFAULT '{}',
    ADD COLUMN chunker            text,
    ADD COLUMN reindex_id         uuid,
    ADD COLUMN source_generation  integer,
    ADD COLUMN content_generation integer,
    ADD FOREIGN KEY (tenant_id, reindex_id) REFERENCES docray.reindexes,
    ADD CHECK ((reindex_id IS NULL) = (source_generation IS NULL) AND (reindex_id IS NULL) = (content_generation IS NULL));
CREATE INDEX generations_uploads ON docray.generations (tenant_id, next_try_at)
    WHERE state IN ('queued', 'parsed', 'embedded', 'indexed') AND reindex_id IS NULL;
CREATE INDEX generations_rebuilding ON docray.generations (tenant_id, reindex_id)
    WHERE state IN ('queued', 'parsed', 'embedded', 'indexed') AND reindex_id IS NOT NULL;
CREATE INDEX generations_of_reindex ON docray.generations (tenant_id, reindex_id) WHERE reindex_id IS NOT NULL;

-- What is there already, by the one who sees all tenants.
GRANT UPDATE (embedding_model) ON docray.tenants TO docray_maint;
SET LOCAL ROLE docray_maint;
UPDATE docray.generations SET models = ARRAY[embedding_model] WHERE embedding_model IS NOT NULL;
UPDATE docray.tenants t
   SET embedding_model = (SELECT g.embedding_model FROM docray.documents d
                            JOIN docray.generations g ON g.tenant_id = d.tenant_id AND g.document_id = d.id AND g.generation = d.live_generation
                           WHERE d.tenant_id = t.tenant_id AND d.deleted_at IS NULL AND g.embedding_model IS NOT NULL
                           GROUP BY g.embedding_model ORDER BY count(*) DESC LIMIT 1);
SET LOCAL ROLE docray_owner;
REVOKE UPDATE (embedding_model) ON docray.tenants FROM docray_maint;

-- As before, but a document's newest generation is the newest of its uploads, or the live one made of it: what a reindex builds is not shown.
CREATE OR REPLACE VIEW docray.document_states WITH (security_invoker = true) AS
SELECT d.tenant_id, d.id, d.filename, d.title, d.metadata, d.state, d.live_generation, d.next_generation, d.sha256, d.size_bytes,
       d.page_count, d.chunk_count, d.version, d.created_at, d.updated_at, d.ready_at, d.deleted_at,
       ARRAY(SELECT m.collection_id FROM docray.collection_documents m
              WHERE m.tenant_id = d.tenant_id AND m.document_id = d.id ORDER BY m.added_at, m.collection_id) AS collection_ids,
       g.generation, g.state AS generation_state, g.stage, g.pages_done, g.pages_total,
       g.failure_code, g.failure_message, g.failure_retryable
  FROM docray.documents d
  JOIN LATERAL (SELECT * FROM docray.generations n WHERE n.tenant_id = d.tenant_id AND n.document_id = d.id
                   AND (n.reindex_id IS NULL OR n.generation = d.live_generation)
                 ORDER BY coalesce(n.content_generation, n.generation) DESC, n.generation DESC LIMIT 1) g ON true;

-- As before, but what a reindex could not build changes nothing of the document: it answers as it did.
CREATE OR REPLACE FUNCTION docray.fail_generation(
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
     WHERE d.tenant_id = p_tenant AND d.id = p_document AND d.deleted_at IS NULL AND before.reindex_id IS NULL;
    INSERT INTO docray.audit_log (tenant_id, principal_kind, action, object_kind, object_id, details)
    VALUES (p_tenant, 'worker', CASE WHEN before.reindex_id IS NULL THEN 'document.failed' ELSE 'document.reindex_failed' END, 'document',
            p_document, jsonb_build_object('generation', p_generation, 'code', p_code, 'worker', p_actor));
    RETURN true;
END
$$;

GRANT SELECT ON docray.reindexes TO docray_maint;
GRANT CREATE ON SCHEMA docray TO docray_maint;
SET LOCAL ROLE docray_maint;
DROP FUNCTION docray.lease_job(text, double precision, integer, text);

-- Leases the next job, as before: uploads of every tenant first, then what reindexes build, and of that only what goes by a model the worker
-- has (p_models). `models` are those that the generation is to be embedded by, the one it is cut for first: the tenant's own; while a reindex
-- is open the new one and the one before, so that neither the switch nor a rollback loses what came meanwhile.
CREATE FUNCTION docray.lease_job(
    p_worker text, p_lease_s double precision, p_max_takeovers integer, p_crash_message text, p_models text[] DEFAULT '{}'
)
    RETURNS TABLE (tenant_id uuid, document_id uuid, generation integer, state text, fence bigint, attempt integer, lease_until timestamptz,
                   blob_key text, filename text, title text, size_bytes bigint, reindex_id uuid, source_generation integer, models text[])
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, docray, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    turn record;
    job  docray.generations;
BEGIN
    FOR turn IN
        WITH RECURSIVE uploading (tenant_id) AS (  -- the tenants with jobs, by one index probe each
            (SELECT g.tenant_id FROM docray.generations g
              WHERE g.state IN ('queued', 'parsed', 'embedded', 'indexed') AND g.reindex_id IS NULL ORDER BY g.tenant_id LIMIT 1)
            UNION ALL
            SELECT (SELECT g.tenant_id FROM docray.generations g
                     WHERE g.state IN ('queued', 'parsed', 'embedded', 'indexed') AND g.reindex_id IS NULL AND g.tenant_id > uploading.tenant_id
                     ORDER BY g.tenant_id LIMIT 1)
              FROM uploading WHERE uploading.tenant_id IS NOT NULL
        ), rebuilding (tenant_id) AS (
            SELECT r.tenant_id FROM docray.reindexes r WHERE r.state IN ('building', 'switched') AND r.model = ANY (p_models)
        )
        SELECT busy.tenant_id, busy.rebuilds
          FROM (SELECT u.tenant_id, false AS rebuilds FROM uploading u UNION ALL SELECT b.tenant_id, true FROM rebuilding b) busy
          LEFT JOIN docray.queue_turns t ON t.tenant_id = busy.tenant_id
         WHERE busy.tenant_id IS NOT NULL ORDER BY busy.rebuilds, t.leased_at NULLS FIRST
    LOOP
        LOOP
            SELECT g.* INTO job FROM docray.generations g
             WHERE g.tenant_id = turn.tenant_id AND g.state IN ('queued', 'parsed', 'embedded', 'indexed')
               AND (g.reindex_id IS NOT NULL) = turn.rebuilds
               AND g.next_try_at <= clock_timestamp() AND (g.lease_until IS NULL OR g.lease_until <= clock_timestamp())
               AND NOT EXISTS (SELECT FROM docray.purges p WHERE p.tenant_id = g.tenant_id AND p.document_id = g.document_id
                                  AND p.generation = g.generation)
             ORDER BY g.next_try_at LIMIT 1 FOR UPDATE OF g SKIP LOCKED;
            EXIT WHEN NOT FOUND;
            IF job.lease_owner IS NOT NULL AND job.takeovers >= p_max_takeovers THEN
                -- Documents are locked before generations everywhere else; where this one is taken, the next call will do it.
                PERFORM 1 FROM docray.documents d WHERE d.tenant_id = turn.tenant_id AND d.id = job.document_id FOR UPDATE SKIP LOCKED;
                EXIT WHEN NOT FOUND;
                PERFORM docray.fail_generation(
                    turn.tenant_id, job.document_id, job.generation, NULL, 'parser_crash', p_crash_message, false, p_worker);
                CONTINUE;
            END IF;
            INSERT INTO docray.queue_turns AS t (tenant_id, leased_at) VALUES (turn.tenant_id, clock_timestamp())
            ON CONFLICT (tenant_id) DO UPDATE SET leased_at = excluded.leased_at;
            RETURN QUERY
            UPDATE docray.generations g
               SET fence = g.fence + 1, lease_owner = p_worker, lease_until = clock_timestamp() + make_interval(secs => p_lease_s),
                   takeovers = g.takeovers + (g.lease_owner IS NOT NULL)::integer
              FROM docray.documents d
              JOIN docray.tenants o ON o.tenant_id = d.tenant_id
              LEFT JOIN docray.reindexes r ON r.tenant_id = d.tenant_id AND r.state IN ('building', 'switched')
             WHERE g.tenant_id = job.tenant_id AND g.document_id = job.document_id AND g.generation = job.generation
               AND d.tenant_id = g.tenant_id AND d.id = g.document_id
            RETURNING g.tenant_id, g.document_id, g.generation, g.state, g.fence, g.attempt, g.lease_until, g.blob_key,
                      coalesce(g.filename, d.filename), d.title, g.size_bytes, g.reindex_id, g.source_generation,
                      CASE WHEN r.id IS NULL THEN array_remove(ARRAY[o.embedding_model], NULL)
                           WHEN r.model = r.model_before OR g.reindex_id IS NOT NULL AND r.switch = 'tenant' THEN ARRAY[r.model]
                           ELSE ARRAY[r.model, r.model_before] END;
            RETURN;
        END LOOP;
    END LOOP;
END
$$;

-- The reindexes of all tenants that have something for a worker to do.
CREATE FUNCTION docray.reindex_work() RETURNS TABLE (tenant_id uuid, id uuid, is_open boolean, dropping text, dropping_dimension integer)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, docray, pg_temp
AS $$
    SELECT r.tenant_id, r.id, r.state IN ('building', 'switched'), r.dropping, r.dropping_dimension FROM docray.reindexes r
     WHERE r.state IN ('building', 'switched') OR r.dropping IS NOT NULL ORDER BY r.tenant_id, r.created_at;
$$;
REVOKE ALL ON FUNCTION docray.lease_job(text, double precision, integer, text, text[]), docray.reindex_work() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION docray.lease_job(text, double precision, integer, text, text[]), docray.reindex_work() TO docray_worker;

SET LOCAL ROLE docray_owner;
REVOKE CREATE ON SCHEMA docray FROM docray_maint;
GRANT UPDATE (embedding_model) ON docray.tenants TO docray_app, docray_worker;
GRANT SELECT, INSERT, UPDATE ON docray.reindexes TO docray_app;
GRANT SELECT, UPDATE ON docray.reindexes TO docray_worker;
RESET ROLE;
