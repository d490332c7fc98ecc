-- name: insert
-- Who did what to which thing; never document text.
INSERT INTO docray.audit_log (tenant_id, principal_kind, principal_id, action, object_kind, object_id, details)
VALUES ($1, $2, $3, $4, $5, $6, $7);

-- name: insert_usage
-- What was used.
INSERT INTO docray.usage (tenant_id, kind, document_id, generation, pages, chunks, size_bytes) VALUES ($1, $2, $3, $4, $5, $6, $7);
