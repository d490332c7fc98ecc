-- name: backlog
-- How many jobs of all tenants wait.
SELECT docray.count_waiting_jobs();

-- name: lease
-- The next job of the tenant whose turn it is.
SELECT * FROM docray.lease_job($1, $2, $3, $4, $5);

-- name: heartbeat
-- Extends a lease that still holds.
UPDATE docray.generations SET lease_until = clock_timestamp() + make_interval(secs => $4)
 WHERE tenant_id = {tenant} AND document_id = $1 AND generation = $2 AND fence = $3 AND state IN ('queued', 'parsed', 'embedded', 'indexed')
RETURNING fence;

-- name: progress
-- Stage and pages under the fence; the document gets a new version only where something changed that it shows. The document is locked first.
WITH document AS MATERIALIZED (
    SELECT d.tenant_id, d.id FROM docray.documents d WHERE d.tenant_id = {tenant} AND d.id = $1 AND d.deleted_at IS NULL FOR UPDATE
), held AS (
    UPDATE docray.generations g
       SET stage = $4, pages_done = greatest(g.pages_done, $5), pages_total = coalesce($6, g.pages_total)
      FROM document, docray.generations before
     WHERE g.tenant_id = document.tenant_id AND g.document_id = document.id AND g.generation = $2 AND g.fence = $3
       AND g.state IN ('queued', 'parsed', 'embedded', 'indexed')
       AND before.tenant_id = g.tenant_id AND before.document_id = g.document_id AND before.generation = g.generation
    RETURNING g.reindex_id IS NULL
              AND (g.stage, g.pages_done, g.pages_total) IS DISTINCT FROM (before.stage, before.pages_done, before.pages_total) AS changed
), shown AS (
    UPDATE docray.documents SET version = version + 1, updated_at = clock_timestamp()
     WHERE tenant_id = {tenant} AND id = $1 AND (SELECT changed FROM held)
)
SELECT changed FROM held;

-- name: lock_document
-- The document of a job, for update; no row once it is being deleted.
SELECT live_generation FROM docray.documents WHERE tenant_id = {tenant} AND id = $1 AND deleted_at IS NULL FOR UPDATE;

-- name: check_lease
-- Whether the lease holds in this state; the generation stays locked.
SELECT fence FROM docray.generations WHERE tenant_id = {tenant} AND document_id = $1 AND generation = $2 AND fence = $3 AND state = $4 FOR UPDATE;

-- name: set_state
-- A compare-and-set of the state under the fence. A step that was done counts its tries anew.
UPDATE docray.generations
   SET state = $5, attempt = 1, embedding_model = coalesce($6, embedding_model), dimension = coalesce($7, dimension), models = coalesce($8, models)
 WHERE tenant_id = {tenant} AND document_id = $1 AND generation = $2 AND fence = $3 AND state = $4
RETURNING fence;

-- name: show_state
-- The document after the state of its upload changed.
UPDATE docray.documents
   SET state = CASE WHEN live_generation IS NULL THEN $2 ELSE state END, version = version + 1, updated_at = clock_timestamp()
 WHERE tenant_id = {tenant} AND id = $1;

-- name: delete_pages
-- Pages of a generation (NULL: of the document).
DELETE FROM docray.pages WHERE tenant_id = {tenant} AND document_id = $1 AND ($2::integer IS NULL OR generation = $2);

-- name: delete_chunks
-- Chunks of a generation (NULL: of the document).
DELETE FROM docray.chunks WHERE tenant_id = {tenant} AND document_id = $1 AND ($2::integer IS NULL OR generation = $2);

-- name: insert_page
-- One page.
INSERT INTO docray.pages (tenant_id, document_id, generation, number, width, height, rotation, text, layout)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- name: copy_pages
-- The pages from $4 to $5 of another generation, for a reindex: they stay where they are, and what was read once is not read again.
INSERT INTO docray.pages (tenant_id, document_id, generation, number, width, height, rotation, text, layout)
SELECT tenant_id, document_id, $2, number, width, height, rotation, text, layout FROM docray.pages
 WHERE tenant_id = {tenant} AND document_id = $1 AND generation = $3 AND number BETWEEN $4 AND $5;

-- name: pages
-- The pages of a generation in order.
SELECT number, width, height, rotation, layout FROM docray.pages WHERE tenant_id = {tenant} AND document_id = $1 AND generation = $2 ORDER BY number;

-- name: insert_chunk
-- One chunk.
INSERT INTO docray.chunks (tenant_id, document_id, generation, n, chunk_id, text, after, heading_path, context, spans, pages, page_numbers, tokens)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13);

-- name: note_parsed
-- What parsing found.
UPDATE docray.generations SET page_count = $3, chunk_count = $4, title = $5, pages_total = $3, pages_done = $3, chunker = $6
 WHERE tenant_id = {tenant} AND document_id = $1 AND generation = $2;

-- name: chunks
-- The chunks of a generation in order.
SELECT n, text, spans, pages, heading_path, context, tokens FROM docray.chunks
 WHERE tenant_id = {tenant} AND document_id = $1 AND generation = $2 ORDER BY n;

-- name: end_job
-- INDEXED to READY under the fence; the lease ends.
UPDATE docray.generations SET state = 'ready', stage = 'done', ready_at = clock_timestamp(), lease_owner = NULL, lease_until = NULL
 WHERE tenant_id = {tenant} AND document_id = $1 AND generation = $2 AND fence = $3 AND state = 'indexed'
RETURNING page_count, chunk_count, size_bytes, embedding_model, source_generation;

-- name: show_live
-- The document answers with this generation from the commit on.
UPDATE docray.documents d
   SET live_generation = g.generation, state = 'ready', sha256 = g.sha256, size_bytes = g.size_bytes,
       filename = coalesce(g.filename, d.filename), title = coalesce(d.title, g.title), page_count = g.page_count,
       chunk_count = g.chunk_count, ready_at = g.ready_at, version = d.version + 1, updated_at = clock_timestamp()
  FROM docray.generations g
 WHERE d.tenant_id = {tenant} AND d.id = $1 AND g.tenant_id = d.tenant_id AND g.document_id = d.id AND g.generation = $2;

-- name: retire
-- What answered until now ($3), what is kept of earlier ones, and all that reindexes built of them.
UPDATE docray.generations SET state = 'deleting'
 WHERE tenant_id = {tenant} AND document_id = $1 AND generation <> $2 AND state <> 'deleting'
   AND (generation = $3 OR state = 'ready' OR reindex_id IS NOT NULL)
RETURNING generation;

-- name: order_purge
-- Orders the removal of a generation. An order that is there already starts over: its purger loses it.
INSERT INTO docray.purges AS p (tenant_id, id, document_id, generation) VALUES ($1, gen_random_uuid(), $2, $3)
ON CONFLICT ON CONSTRAINT purges_order DO UPDATE SET fence = p.fence + 1, next_try_at = clock_timestamp(), lease_until = NULL;

-- name: fail
-- FAILED with a reason, under the fence.
SELECT docray.fail_generation($1, $2, $3, $4, $5, $6, $7, $8);

-- name: retry_later
-- Gives the job back after a transient error, to be leased again after the delay.
UPDATE docray.generations
   SET lease_owner = NULL, lease_until = NULL, attempt = attempt + 1, next_try_at = clock_timestamp() + make_interval(secs => $4)
 WHERE tenant_id = {tenant} AND document_id = $1 AND generation = $2 AND fence = $3 AND state IN ('queued', 'parsed', 'embedded', 'indexed')
RETURNING fence;

-- name: release
-- Gives the job back at once, in whatever state; a purge that waits for the lease may run.
UPDATE docray.generations SET lease_owner = NULL, lease_until = NULL
 WHERE tenant_id = {tenant} AND document_id = $1 AND generation = $2 AND fence = $3;
