-- name: lock_content
-- Until the transaction ends, nobody else of the tenant decides about these bytes.
SELECT pg_advisory_xact_lock(hashtextextended($1 || $2, 1));

-- name: find_content
-- The oldest document whose current bytes these are.
SELECT * FROM docray.document_states d
 WHERE d.tenant_id = {tenant}
   AND d.id = (SELECT id FROM docray.documents WHERE tenant_id = {tenant} AND sha256 = $1 AND deleted_at IS NULL ORDER BY created_at, id LIMIT 1);

-- name: insert
-- A queued document.
INSERT INTO docray.documents (tenant_id, id, owner_id, filename, title, metadata, state, next_generation, sha256, size_bytes)
VALUES ($1, $2, $3, $4, $5, $6, 'queued', 2, $7, $8);

-- name: insert_generation
-- A queued generation.
INSERT INTO docray.generations (tenant_id, document_id, generation, state, sha256, size_bytes, filename, blob_key)
VALUES ($1, $2, $3, 'queued', $4, $5, $6, $7);

-- name: join_collections
-- Puts the document into collections; a foreign key tells of one that is absent.
INSERT INTO docray.collection_documents (tenant_id, collection_id, document_id)
SELECT $1, collection_id, $2 FROM unnest($3::uuid[]) AS collection_id
ON CONFLICT DO NOTHING;

-- name: get
-- A document that is not being deleted.
SELECT * FROM docray.document_states d WHERE d.tenant_id = {tenant} AND d.id = $1 AND d.deleted_at IS NULL;

-- name: lock
-- The row of a document that is not being deleted, for update. Everything that changes a document takes this lock first.
SELECT live_generation, next_generation FROM docray.documents WHERE tenant_id = {tenant} AND id = $1 AND deleted_at IS NULL FOR UPDATE;

-- name: list
-- A page of the list: the ids by their index first, then only those documents whole. One row more than asked tells of a next page. The
-- filters take the place of {filters}.
SELECT d.*
  FROM (SELECT p.id FROM docray.documents p
         WHERE p.tenant_id = {tenant}
           AND (p.created_at, p.id) < (coalesce($1, 'infinity'::timestamptz), coalesce($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
           AND {filters}
         ORDER BY p.created_at DESC, p.id DESC LIMIT $3) AS page
  JOIN docray.document_states d ON d.tenant_id = {tenant} AND d.id = page.id
 ORDER BY d.created_at DESC, d.id DESC;

-- name: patch
-- Sets title ($2: whether) and metadata ($4: whether).
UPDATE docray.documents
   SET title = CASE WHEN $2 THEN $3 ELSE title END, metadata = CASE WHEN $4 THEN $5 ELSE metadata END,
       version = version + 1, updated_at = clock_timestamp()
 WHERE tenant_id = {tenant} AND id = $1;

-- name: retire_generations
-- Takes every upload that is not live out of work, and says which; their workers lose their leases, their purges are ordered. What a reindex
-- builds is of the live one, and goes when that is replaced.
UPDATE docray.generations SET state = 'deleting'
 WHERE tenant_id = {tenant} AND document_id = $1 AND generation IS DISTINCT FROM $2 AND state NOT IN ('deleting', 'ready') AND reindex_id IS NULL
RETURNING generation;

-- name: order_purge
-- Orders the removal of a generation. An order that is there already starts over: its purger loses it.
INSERT INTO docray.purges AS p (tenant_id, id, document_id, generation) VALUES ($1, gen_random_uuid(), $2, $3)
ON CONFLICT ON CONSTRAINT purges_order DO UPDATE SET fence = p.fence + 1, next_try_at = clock_timestamp(), lease_until = NULL;

-- name: set_next_generation
-- The document after a generation was added: one that has no live one shows the new one's file and state.
UPDATE docray.documents
   SET next_generation = $2 + 1, version = version + 1, updated_at = clock_timestamp(),
       state = CASE WHEN live_generation IS NULL THEN 'queued' ELSE state END,
       sha256 = CASE WHEN live_generation IS NULL THEN $3 ELSE sha256 END,
       size_bytes = CASE WHEN live_generation IS NULL THEN $4 ELSE size_bytes END,
       filename = CASE WHEN live_generation IS NULL THEN coalesce($5, filename) ELSE filename END
 WHERE tenant_id = {tenant} AND id = $1;

-- name: requeue
-- The newest upload, if it failed, is queued again, as if it had never been tried.
UPDATE docray.generations
   SET state = 'queued', stage = 'queued', pages_done = 0, pages_total = NULL, failure_code = NULL, failure_message = NULL,
       failure_retryable = NULL, attempt = 1, takeovers = 0, lease_owner = NULL, lease_until = NULL, next_try_at = clock_timestamp(),
       embedding_model = NULL, dimension = NULL, models = '{}', chunker = NULL, page_count = NULL, chunk_count = NULL
 WHERE tenant_id = {tenant} AND document_id = $1 AND state = 'failed'
   AND generation = (SELECT max(u.generation) FROM docray.generations u WHERE u.tenant_id = {tenant} AND u.document_id = $1 AND u.reindex_id IS NULL)
RETURNING generation;

-- name: show_queued
-- A document without a live generation is queued again; every one gets a new version.
UPDATE docray.documents
   SET state = CASE WHEN live_generation IS NULL THEN 'queued' ELSE state END, version = version + 1, updated_at = clock_timestamp()
 WHERE tenant_id = {tenant} AND id = $1;

-- name: touch
-- New versions of documents in which something changed that callers see.
UPDATE docray.documents SET version = version + 1, updated_at = clock_timestamp()
 WHERE tenant_id = {tenant} AND id = ANY ($1::uuid[]) AND deleted_at IS NULL;

-- name: lock_all
-- The rows of documents that are not being deleted, for update, in one order so that two such transactions cannot block each other.
SELECT id FROM docray.documents WHERE tenant_id = {tenant} AND id = ANY ($1::uuid[]) AND deleted_at IS NULL ORDER BY id FOR UPDATE;

-- name: mark_deleting
-- From the commit on no reader sees these documents, and no worker can record anything about them.
UPDATE docray.documents SET state = 'deleting', deleted_at = clock_timestamp(), version = version + 1, updated_at = clock_timestamp()
 WHERE tenant_id = {tenant} AND id = ANY ($1::uuid[]);

-- name: stop_generations
-- All generations of documents that are being deleted.
UPDATE docray.generations SET state = 'deleting' WHERE tenant_id = {tenant} AND document_id = ANY ($1::uuid[]) AND state <> 'deleting';

-- name: leave_collections
-- Documents that are being deleted are in no collection.
DELETE FROM docray.collection_documents WHERE tenant_id = {tenant} AND document_id = ANY ($1::uuid[]);

-- name: order_purges
-- Orders the removal of whole documents.
INSERT INTO docray.purges (tenant_id, id, document_id) SELECT $1, gen_random_uuid(), id FROM unnest($2::uuid[]) AS id
ON CONFLICT ON CONSTRAINT purges_order DO NOTHING;

-- name: content
-- The file of the live generation, of the newest while none is live.
SELECT g.blob_key, d.filename, g.size_bytes, g.sha256, g.generation
  FROM docray.documents d
  JOIN docray.generations g ON g.tenant_id = d.tenant_id AND g.document_id = d.id
                           AND g.generation = coalesce(d.live_generation, d.next_generation - 1)
 WHERE d.tenant_id = {tenant} AND d.id = $1 AND d.deleted_at IS NULL;

-- name: page
-- A page of the live generation.
SELECT p.number, p.width, p.height, p.rotation, p.layout
  FROM docray.documents d
  JOIN docray.pages p ON p.tenant_id = d.tenant_id AND p.document_id = d.id AND p.generation = d.live_generation
 WHERE d.tenant_id = {tenant} AND d.id = $1 AND d.deleted_at IS NULL AND p.number = $2;

-- name: version
-- Version of a row, and whether it is being deleted.
SELECT version, deleted_at IS NOT NULL AS deleting FROM docray.documents WHERE tenant_id = {tenant} AND id = $1;

-- name: count_by_state
-- How many documents are in each state.
SELECT state, count(*) AS documents FROM docray.documents WHERE tenant_id = {tenant} AND deleted_at IS NULL GROUP BY state;
