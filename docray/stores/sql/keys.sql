-- name: insert
-- A key without its secret, only the secret's hash.
INSERT INTO docray.api_keys (tenant_id, id, user_id, name, scopes, operator, prefix, secret_hash, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
RETURNING *;

-- name: get
-- A key of the tenant, revoked ones too.
SELECT * FROM docray.api_keys WHERE tenant_id = {tenant} AND id = $1;

-- name: list
-- A page of the keys. One row more than asked tells of a next page.
SELECT * FROM docray.api_keys k
 WHERE k.tenant_id = {tenant}
   AND (k.created_at, k.id) < (coalesce($1, 'infinity'::timestamptz), coalesce($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
 ORDER BY k.created_at DESC, k.id DESC LIMIT $3;

-- name: revoke
-- From the commit on the key opens nothing; the first time counts.
UPDATE docray.api_keys SET revoked_at = coalesce(revoked_at, clock_timestamp()) WHERE tenant_id = {tenant} AND id = $1 RETURNING *;

-- name: find
-- The live key with this hash, and whose it is.
SELECT * FROM docray.find_api_key($1);
