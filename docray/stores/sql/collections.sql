-- name: insert
-- A collection; its name is unique within the tenant.
INSERT INTO docray.collections (tenant_id, id, name, description, metadata) VALUES ($1, $2, $3, $4, $5)
RETURNING *, 0 AS document_count;

-- name: get
-- A collection and how many documents it has.
SELECT c.*, (SELECT count(*) FROM docray.collection_documents m WHERE m.tenant_id = c.tenant_id AND m.collection_id = c.id) AS document_count
  FROM docray.collections c WHERE c.tenant_id = {tenant} AND c.id = $1;

-- name: lock
-- The row of a collection, for update: nothing is added to it meanwhile.
SELECT id FROM docray.collections WHERE tenant_id = {tenant} AND id = $1 FOR UPDATE;

-- name: hold
-- The row of a collection, so that it is not deleted meanwhile.
SELECT id FROM docray.collections WHERE tenant_id = {tenant} AND id = $1 FOR KEY SHARE;

-- name: list
-- A page of the list. One row more than asked tells of a next page.
SELECT c.*, (SELECT count(*) FROM docray.collection_documents m WHERE m.tenant_id = c.tenant_id AND m.collection_id = c.id) AS document_count
  FROM docray.collections c
 WHERE c.tenant_id = {tenant}
   AND (c.created_at, c.id) < (coalesce($1, 'infinity'::timestamptz), coalesce($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
 ORDER BY c.created_at DESC, c.id DESC LIMIT $3;

-- name: patch
-- Sets name ($2: whether), description ($4: whether) and metadata ($6: whether).
UPDATE docray.collections
   SET name = CASE WHEN $2 THEN $3 ELSE name END, description = CASE WHEN $4 THEN $5 ELSE description END,
       metadata = CASE WHEN $6 THEN $7 ELSE metadata END
 WHERE tenant_id = {tenant} AND id = $1
RETURNING id;

-- name: some_members
-- Some documents of a collection, always in the same order.
SELECT document_id FROM docray.collection_documents WHERE tenant_id = {tenant} AND collection_id = $1 ORDER BY document_id LIMIT $2;

-- name: remove_members
-- Takes some documents out of a collection.
DELETE FROM docray.collection_documents WHERE tenant_id = {tenant} AND collection_id = $1 AND document_id = ANY ($2::uuid[]);

-- name: in_no_other
-- Those of the documents that are in no other collection.
SELECT wanted.id FROM unnest($2::uuid[]) AS wanted (id)
 WHERE NOT EXISTS (SELECT FROM docray.collection_documents m
                    WHERE m.tenant_id = {tenant} AND m.document_id = wanted.id AND m.collection_id <> $1);

-- name: delete
-- The collection and its memberships.
DELETE FROM docray.collections WHERE tenant_id = {tenant} AND id = $1;

-- name: add
-- Puts a document into a collection, or sets its attributes there ($4 NULL: leaves them).
INSERT INTO docray.collection_documents AS m (tenant_id, collection_id, document_id, attributes) VALUES ($1, $2, $3, coalesce($4, '{}'::jsonb))
ON CONFLICT (tenant_id, collection_id, document_id) DO UPDATE SET attributes = coalesce($4, m.attributes)
RETURNING *;

-- name: remove
-- Takes a document out of a collection.
DELETE FROM docray.collection_documents WHERE tenant_id = {tenant} AND collection_id = $1 AND document_id = $2 RETURNING document_id;

-- name: members
-- A page of a collection's memberships, latest first.
SELECT * FROM docray.collection_documents m
 WHERE m.tenant_id = {tenant} AND m.collection_id = $1
   AND (m.added_at, m.document_id) < (coalesce($2, 'infinity'::timestamptz), coalesce($3, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
 ORDER BY m.added_at DESC, m.document_id DESC LIMIT $4;
