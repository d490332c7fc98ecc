-- name: read
-- Chunks of live generations with their documents; the filter of the scope takes the place of {filter}. OFFSET 0 keeps the planner to
-- one index probe per chunk: it cannot know how few they are, and would rather walk all documents of the tenant.
SELECT c.chunk_id, c.document_id, c.generation, c.n, c.text, c.after, c.heading_path, c.spans, c.pages,
       d.filename, d.title, d.metadata, d.created_at,
       ARRAY(SELECT m.collection_id FROM docray.collection_documents m
              WHERE m.tenant_id = d.tenant_id AND m.document_id = d.id ORDER BY m.added_at, m.collection_id) AS collection_ids
  FROM docray.chunks c
 CROSS JOIN LATERAL (
        SELECT w.tenant_id, w.id, w.filename, w.title, w.metadata, w.created_at FROM docray.documents w
         WHERE w.tenant_id = c.tenant_id AND w.id = c.document_id AND w.live_generation = c.generation AND w.deleted_at IS NULL
        OFFSET 0) AS d
 WHERE c.tenant_id = {tenant} AND c.chunk_id = ANY ($1::uuid[]) AND ({filter});

-- name: neighbours
-- Chunks of a live generation by number.
SELECT c.chunk_id, c.document_id, c.generation, c.n, c.text, c.after, c.heading_path, c.spans, c.pages,
       d.filename, d.title, d.metadata, d.created_at,
       ARRAY(SELECT m.collection_id FROM docray.collection_documents m
              WHERE m.tenant_id = d.tenant_id AND m.document_id = d.id ORDER BY m.added_at, m.collection_id) AS collection_ids
  FROM docray.documents d
  JOIN docray.chunks c ON c.tenant_id = d.tenant_id AND c.document_id = d.id AND c.generation = d.live_generation
 WHERE d.tenant_id = {tenant} AND d.id = $1 AND d.live_generation = $2 AND d.deleted_at IS NULL AND c.n = ANY ($3::integer[]);

-- name: pages
-- Pages of a live generation by number.
SELECT p.number, p.width, p.height, p.rotation, p.layout
  FROM docray.documents d
  JOIN docray.pages p ON p.tenant_id = d.tenant_id AND p.document_id = d.id AND p.generation = d.live_generation
 WHERE d.tenant_id = {tenant} AND d.id = $1 AND d.live_generation = $2 AND d.deleted_at IS NULL AND p.number = ANY ($3::integer[]);

-- name: any_document
-- Whether a published document is in scope, by a filter that speaks of documents only.
SELECT EXISTS (SELECT FROM docray.documents d
                WHERE d.tenant_id = {tenant} AND d.live_generation IS NOT NULL AND d.deleted_at IS NULL AND ({filter}));

-- name: any_passage
-- Whether a published document has a passage in scope.
SELECT EXISTS (SELECT FROM docray.documents d
                 JOIN docray.chunks c ON c.tenant_id = d.tenant_id AND c.document_id = d.id AND c.generation = d.live_generation
                WHERE d.tenant_id = {tenant} AND d.deleted_at IS NULL AND ({filter}));
