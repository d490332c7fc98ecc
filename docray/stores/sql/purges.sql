-- name: lease
-- The next purge that is due.
SELECT * FROM docray.lease_purge($1, $2);

-- name: hold_document
-- Locks the document of a purge, if it is still there.
SELECT id FROM docray.documents WHERE tenant_id = {tenant} AND id = $1 FOR UPDATE;

-- name: hold
-- Extends the lease of an order that still holds.
UPDATE docray.purges SET lease_until = clock_timestamp() + make_interval(secs => $3)
 WHERE tenant_id = {tenant} AND id = $1 AND fence = $2 RETURNING id;

-- name: finish
-- The order goes, if this lease of it still holds.
DELETE FROM docray.purges WHERE tenant_id = {tenant} AND id = $1 AND fence = $2 RETURNING id;

-- name: delete_generation
-- The row of a generation that was retired; one that failed stays for a retry.
DELETE FROM docray.generations WHERE tenant_id = {tenant} AND document_id = $1 AND generation = $2 AND state = 'deleting';

-- name: delete_generations
-- All generations of a document.
DELETE FROM docray.generations WHERE tenant_id = {tenant} AND document_id = $1;

-- name: delete_document
-- The last trace of a document that is being deleted.
DELETE FROM docray.documents WHERE tenant_id = {tenant} AND id = $1 AND deleted_at IS NOT NULL;

-- name: blob_keys
-- Blobs of retired generations (NULL: of all the document's) that no other generation is made of.
SELECT DISTINCT g.blob_key FROM docray.generations g
 WHERE g.tenant_id = {tenant} AND g.document_id = $1 AND g.state = 'deleting' AND ($2::integer IS NULL OR g.generation = $2)
   AND NOT EXISTS (SELECT FROM docray.generations o WHERE o.tenant_id = {tenant} AND o.document_id = $1 AND o.blob_key = g.blob_key AND o.state <> 'deleting')
 ORDER BY g.blob_key;

-- name: known_blobs
-- Those of the keys that some tenant's generation owns.
SELECT key FROM docray.known_blobs($1::text[]) AS key;

-- name: make_partitions
-- Partitions for this month and the next ones.
SELECT docray.make_partitions($1);

-- name: drop_idempotency_keys
-- Forgets idempotency keys past their time.
SELECT docray.drop_idempotency_keys($1);
