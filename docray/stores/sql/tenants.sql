-- name: raise_epoch
-- The corpus of the tenant changed.
UPDATE docray.tenants SET corpus_epoch = corpus_epoch + 1 WHERE tenant_id = $1;

-- name: epoch
-- The corpus epoch of the tenant.
SELECT corpus_epoch FROM docray.tenants WHERE tenant_id = $1;

-- name: create
-- A tenant with its first user and key.
SELECT docray.create_tenant($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);

-- name: find
-- The tenant of a name.
SELECT * FROM docray.find_tenant($1);
