-- name: insert
-- A reindex that begins; where searches of the tenant use no model yet, what they would use ($7) stands as the one before.
INSERT INTO docray.reindexes (tenant_id, id, switch, collection_id, model, chunker, model_before)
SELECT t.tenant_id, $2, $3, $4, $5, $6, coalesce(t.embedding_model, $7) FROM docray.tenants t WHERE t.tenant_id = $1
RETURNING *;

-- name: keep_model
-- The tenant's searches go on with the model that they use.
UPDATE docray.tenants SET embedding_model = coalesce(embedding_model, $2) WHERE tenant_id = $1;

-- name: use_model
-- From the commit on the tenant's searches use this model.
UPDATE docray.tenants SET embedding_model = $2 WHERE tenant_id = $1;

-- name: get
-- A reindex.
SELECT * FROM docray.reindexes WHERE tenant_id = {tenant} AND id = $1;

-- name: lock
-- A reindex, for update. It is locked before documents; who builds for it holds it by `share`.
SELECT *, created_at <= clock_timestamp() - make_interval(secs => $2) AS known_everywhere
  FROM docray.reindexes WHERE tenant_id = {tenant} AND id = $1 FOR UPDATE;

-- name: lock_open
-- The tenant's open reindex, for update.
SELECT * FROM docray.reindexes WHERE tenant_id = {tenant} AND state IN ('building', 'switched') FOR UPDATE;

-- name: lock_to_plan
-- An open reindex, for update; no row while somebody else plans or changes it.
SELECT *, created_at <= clock_timestamp() - make_interval(secs => $2) AS known_everywhere FROM docray.reindexes
 WHERE tenant_id = {tenant} AND id = $1 AND state IN ('building', 'switched') FOR UPDATE SKIP LOCKED;

-- name: share
-- A reindex that stays as it is until the transaction ends.
SELECT state, switch FROM docray.reindexes WHERE tenant_id = {tenant} AND id = $1 FOR SHARE;

-- name: list
-- A page of the list. One row more than asked tells of a next page.
SELECT * FROM docray.reindexes
 WHERE tenant_id = {tenant} AND (created_at, id) < (coalesce($1, 'infinity'::timestamptz), coalesce($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
 ORDER BY created_at DESC, id DESC LIMIT $3;

-- name: counts
-- Documents that answer, by how far a reindex is with them.
SELECT count(*) AS total, count(*) FILTER (WHERE fate = 'done') AS done, count(*) FILTER (WHERE fate = 'built') AS built,
       count(*) FILTER (WHERE fate = 'failed') AS failed, count(*) FILTER (WHERE fate = 'waiting') AS waiting,
       coalesce(sum(page_count), 0) AS pages_total, coalesce(sum(page_count) FILTER (WHERE fate IN ('done', 'built')), 0) AS pages_done
  FROM (SELECT d.page_count,
               CASE WHEN l.reindex_id = r.id OR (r.model = ANY (l.models) AND l.chunker = r.chunker) THEN 'done'
                    WHEN n.state = 'ready' THEN 'built' WHEN n.state = 'failed' THEN 'failed' ELSE 'waiting' END AS fate
          FROM docray.reindexes r
          JOIN docray.documents d ON d.tenant_id = r.tenant_id AND d.live_generation IS NOT NULL AND d.deleted_at IS NULL
          JOIN docray.generations l ON l.tenant_id = d.tenant_id AND l.document_id = d.id AND l.generation = d.live_generation
          LEFT JOIN LATERAL (
                SELECT g.state FROM docray.generations g
                 WHERE g.tenant_id = d.tenant_id AND g.document_id = d.id AND g.reindex_id = r.id AND g.source_generation = d.live_generation
                   AND g.state <> 'deleting' ORDER BY g.generation DESC LIMIT 1) n ON true
         WHERE r.tenant_id = {tenant} AND r.id = $1
           AND (r.collection_id IS NULL
                OR EXISTS (SELECT FROM docray.collection_documents m
                            WHERE m.tenant_id = d.tenant_id AND m.document_id = d.id AND m.collection_id = r.collection_id))) fates;

-- name: in_work
-- How many generations of a reindex wait for a worker or are in one's hands.
SELECT count(*) FROM docray.generations
 WHERE tenant_id = {tenant} AND reindex_id = $1 AND state IN ('queued', 'parsed', 'embedded', 'indexed');

-- name: plan_next
-- Queues generations for the next documents behind $2 (NULL: from the first) that answer in another form and have none of this reindex.
WITH next AS MATERIALIZED (
    SELECT d.id, d.next_generation, l.generation, coalesce(l.content_generation, l.generation) AS content, l.sha256, l.size_bytes, l.blob_key
      FROM docray.reindexes r
      JOIN docray.documents d ON d.tenant_id = r.tenant_id AND d.live_generation IS NOT NULL AND d.deleted_at IS NULL
      JOIN docray.generations l ON l.tenant_id = d.tenant_id AND l.document_id = d.id AND l.generation = d.live_generation
     WHERE r.tenant_id = {tenant} AND r.id = $1 AND ($2::uuid IS NULL OR d.id > $2)
       AND (l.reindex_id = r.id OR (r.model = ANY (l.models) AND l.chunker = r.chunker)) IS NOT TRUE
       AND NOT EXISTS (SELECT FROM docray.generations g
                        WHERE g.tenant_id = d.tenant_id AND g.document_id = d.id AND g.reindex_id = r.id
                          AND g.source_generation = d.live_generation AND g.state <> 'deleting')
       AND (r.collection_id IS NULL
            OR EXISTS (SELECT FROM docray.collection_documents m
                        WHERE m.tenant_id = d.tenant_id AND m.document_id = d.id AND m.collection_id = r.collection_id))
     ORDER BY d.id LIMIT $3 FOR UPDATE OF d
), numbered AS (
    UPDATE docray.documents d SET next_generation = d.next_generation + 1 FROM next WHERE d.tenant_id = {tenant} AND d.id = next.id
)
INSERT INTO docray.generations (tenant_id, document_id, generation, state, sha256, size_bytes, blob_key, reindex_id, source_generation, content_generation)
SELECT {tenant}, id, next_generation, 'queued', sha256, size_bytes, blob_key, $1, generation, content FROM next
RETURNING document_id;

-- name: note_place
-- How far the planner came, and the corpus in which it found nothing left (NULL: there may be something).
UPDATE docray.reindexes SET place = $2, checked_epoch = $3 WHERE tenant_id = {tenant} AND id = $1;

-- name: lock_documents
-- The documents that a reindex has a generation of which may answer, for update, in the one order.
SELECT d.id FROM docray.documents d
 WHERE d.tenant_id = {tenant} AND d.deleted_at IS NULL
   AND d.id IN (SELECT g.document_id FROM docray.generations g WHERE g.tenant_id = {tenant} AND g.reindex_id = $1 AND g.state = 'ready')
 ORDER BY d.id FOR UPDATE;

-- name: show_built
-- Every document answers with what was built of what it answers with now.
UPDATE docray.documents d
   SET live_generation = g.generation, page_count = g.page_count, chunk_count = g.chunk_count, version = d.version + 1, updated_at = clock_timestamp()
  FROM docray.generations g
 WHERE d.tenant_id = {tenant} AND d.deleted_at IS NULL AND g.tenant_id = d.tenant_id AND g.document_id = d.id AND g.reindex_id = $1
   AND g.state = 'ready' AND g.source_generation = d.live_generation;

-- name: show_before
-- Every document that answers with a generation of a reindex answers with what it was built of.
UPDATE docray.documents d
   SET live_generation = o.generation, page_count = o.page_count, chunk_count = o.chunk_count, version = d.version + 1, updated_at = clock_timestamp()
  FROM docray.generations g
  JOIN docray.generations o ON o.tenant_id = g.tenant_id AND o.document_id = g.document_id AND o.generation = g.source_generation AND o.state = 'ready'
 WHERE d.tenant_id = {tenant} AND d.deleted_at IS NULL AND g.tenant_id = d.tenant_id AND g.document_id = d.id AND g.reindex_id = $1
   AND g.generation = d.live_generation;

-- name: retire_built
-- Takes every generation of a reindex that does not answer out of work and orders its purge.
WITH gone AS (
    UPDATE docray.generations g SET state = 'deleting'
      FROM docray.documents d
     WHERE g.tenant_id = {tenant} AND g.reindex_id = $1 AND g.state <> 'deleting' AND d.tenant_id = g.tenant_id AND d.id = g.document_id
       AND g.generation IS DISTINCT FROM d.live_generation AND d.deleted_at IS NULL
    RETURNING g.document_id, g.generation
)
INSERT INTO docray.purges AS p (tenant_id, id, document_id, generation)
SELECT {tenant}, gen_random_uuid(), document_id, generation FROM gone
ON CONFLICT ON CONSTRAINT purges_order DO UPDATE SET fence = p.fence + 1, next_try_at = clock_timestamp(), lease_until = NULL;

-- name: retire_kept
-- Orders the purge of what documents of a reindex answered with before.
WITH gone AS (
    UPDATE docray.generations g SET state = 'deleting'
      FROM docray.documents d
     WHERE g.tenant_id = {tenant} AND g.state = 'ready' AND d.tenant_id = g.tenant_id AND d.id = g.document_id AND d.deleted_at IS NULL
       AND g.generation IS DISTINCT FROM d.live_generation
       AND d.id IN (SELECT n.document_id FROM docray.generations n WHERE n.tenant_id = {tenant} AND n.reindex_id = $1)
    RETURNING g.document_id, g.generation
)
INSERT INTO docray.purges AS p (tenant_id, id, document_id, generation)
SELECT {tenant}, gen_random_uuid(), document_id, generation FROM gone
ON CONFLICT ON CONSTRAINT purges_order DO UPDATE SET fence = p.fence + 1, next_try_at = clock_timestamp(), lease_until = NULL;

-- name: retire_failed
-- What failed goes, so that it is planned anew.
WITH gone AS (
    UPDATE docray.generations g SET state = 'deleting' WHERE g.tenant_id = {tenant} AND g.reindex_id = $1 AND g.state = 'failed'
    RETURNING g.document_id, g.generation
)
INSERT INTO docray.purges AS p (tenant_id, id, document_id, generation)
SELECT {tenant}, gen_random_uuid(), document_id, generation FROM gone
ON CONFLICT ON CONSTRAINT purges_order DO UPDATE SET fence = p.fence + 1, next_try_at = clock_timestamp(), lease_until = NULL;

-- name: mark_switched
-- Searches use the new form from the commit on.
UPDATE docray.reindexes SET state = 'switched', switched_at = clock_timestamp() WHERE tenant_id = {tenant} AND id = $1 RETURNING *;

-- name: end
-- The reindex ends; vectors by model $3, where the tenant has some beside those of another, are of no use any more.
UPDATE docray.reindexes r
   SET state = $2, ended_at = clock_timestamp(), dropping = g.model, dropping_dimension = g.dimension
  FROM (SELECT 1) one
  LEFT JOIN (SELECT w.embedding_model AS model, w.dimension FROM docray.generations w
              WHERE w.tenant_id = {tenant} AND w.embedding_model = $3 AND w.dimension IS NOT NULL LIMIT 1) g ON true
 WHERE r.tenant_id = {tenant} AND r.id = $1
RETURNING r.*;

-- name: forget_model
-- Generations that two models have embedded no longer count as embedded by the one whose vectors go.
UPDATE docray.generations
   SET models = array_remove(models, $1), dimension = CASE WHEN embedding_model <> $1 THEN dimension END,
       embedding_model = CASE WHEN embedding_model = $1 THEN (array_remove(models, $1))[1] ELSE embedding_model END
 WHERE tenant_id = {tenant} AND $1 = ANY (models) AND cardinality(models) > 1 AND state <> 'deleting';

-- name: drop_nothing
-- A model that a new reindex speaks of is not dropped.
UPDATE docray.reindexes SET dropping = NULL WHERE tenant_id = {tenant} AND dropping = ANY ($1::text[]);

-- name: dropped
-- The vectors by a model are gone.
UPDATE docray.reindexes SET dropping = NULL WHERE tenant_id = {tenant} AND id = $1 AND dropping = $2;

-- name: allow_time
-- A switch of very many documents is one statement all the same; this transaction may take that long.
SELECT set_config('statement_timeout', $1, true), set_config('lock_timeout', $2, true);

-- name: work
-- Reindexes of all tenants that have something for a worker to do.
SELECT * FROM docray.reindex_work();
