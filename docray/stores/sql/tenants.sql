-- name: raise_epoch
-- The corpus of the tenant changed.
UPDATE docray.tenants SET corpus_epoch = corpus_epoch + 1 WHERE tenant_id = $1;

-- name: raise_epoch_and_keep_model
-- The corpus of the tenant changed; the model of its first document is the one that its searches use.
UPDATE docray.tenants SET corpus_epoch = corpus_epoch + 1, embedding_model = coalesce(embedding_model, $2) WHERE tenant_id = $1;

-- name: search_form
-- The model that searches of the tenant use, whether a reindex is open, and whether the index holds generations that do not answer.
SELECT t.embedding_model, r.reindexing, r.reindexing OR EXISTS (SELECT FROM docray.purges p WHERE p.tenant_id = {tenant}) AS crowded
  FROM docray.tenants t
 CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM docray.reindexes i WHERE i.tenant_id = {tenant} AND i.state IN ('building', 'switched')) AS reindexing) r
 WHERE t.tenant_id = {tenant};

-- name: epoch
-- The corpus epoch of the tenant.
SELECT corpus_epoch FROM docray.tenants WHERE tenant_id = $1;

-- name: create
-- A tenant with its first user and key.
SELECT docray.create_tenant($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);

-- name: find
-- The tenant of a name.
SELECT * FROM docray.find_tenant($1);
