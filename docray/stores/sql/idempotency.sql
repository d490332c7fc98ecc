-- name: claim
-- Claims a key that is free: absent, past its time, or of a request that died without an answer. No row where it is not free.
INSERT INTO docray.idempotency_keys AS k (tenant_id, principal_id, route, key, fingerprint, token, claimed_until, created_at)
VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp() + make_interval(secs => $7), clock_timestamp())
ON CONFLICT (tenant_id, principal_id, route, key) DO UPDATE
   SET fingerprint = excluded.fingerprint, token = excluded.token, claimed_until = excluded.claimed_until, created_at = excluded.created_at,
       status = NULL, content_type = NULL, headers = NULL, body = NULL
 WHERE k.created_at < clock_timestamp() - make_interval(secs => $8) OR (k.status IS NULL AND k.claimed_until < clock_timestamp())
RETURNING token;

-- name: get
-- What is known of a key.
SELECT fingerprint, status, content_type, headers, body FROM docray.idempotency_keys
 WHERE tenant_id = {tenant} AND principal_id = $1 AND route = $2 AND key = $3;

-- name: extend
-- Keeps a claim.
UPDATE docray.idempotency_keys SET claimed_until = clock_timestamp() + make_interval(secs => $5)
 WHERE tenant_id = {tenant} AND principal_id = $1 AND route = $2 AND key = $3 AND token = $4 AND status IS NULL
RETURNING token;

-- name: store
-- The answer, by the holder of the claim.
UPDATE docray.idempotency_keys SET status = $5, content_type = $6, headers = $7, body = $8
 WHERE tenant_id = {tenant} AND principal_id = $1 AND route = $2 AND key = $3 AND token = $4 AND status IS NULL
RETURNING token;

-- name: release
-- The key is free again.
DELETE FROM docray.idempotency_keys WHERE tenant_id = {tenant} AND principal_id = $1 AND route = $2 AND key = $3 AND token = $4 AND status IS NULL;
