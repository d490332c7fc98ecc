-- name: insert
-- A run without files, driven by nobody: its lease has run out.
INSERT INTO docray.bulk_runs (tenant_id, id, source, collection_id) VALUES ($1, $2, $3, $4);

-- name: get
-- A run, and whether its driver's lease holds.
SELECT *, lease_until > clock_timestamp() AS driven FROM docray.bulk_runs WHERE tenant_id = {tenant} AND id = $1;

-- name: list
-- A page of the list. One row more than asked tells of a next page.
SELECT *, lease_until > clock_timestamp() AS driven FROM docray.bulk_runs
 WHERE tenant_id = {tenant} AND (created_at, id) < (coalesce($1, 'infinity'::timestamptz), coalesce($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
 ORDER BY created_at DESC, id DESC LIMIT $3;

-- name: unfinished
-- The newest run of a source and collection, unless it is through: one that failed goes on too, for it holds leases of documents.
SELECT *, lease_until > clock_timestamp() AS driven
  FROM (SELECT * FROM docray.bulk_runs WHERE tenant_id = {tenant} AND source = $1 AND collection_id IS NOT DISTINCT FROM $2
         ORDER BY created_at DESC, id DESC LIMIT 1) newest
 WHERE state <> 'done';

-- name: drive
-- Makes the caller the driver, unless another one's lease holds. A run that failed may be driven again.
UPDATE docray.bulk_runs
   SET fence = fence + 1, lease_until = clock_timestamp() + make_interval(secs => $2), state = 'running', error_code = NULL, error_message = NULL,
       ended_at = NULL, pace = 1, version = version + 1, updated_at = clock_timestamp()
 WHERE tenant_id = {tenant} AND id = $1 AND lease_until <= clock_timestamp()
RETURNING fence;

-- name: keep
-- Extends the driver's lease and counts its seconds.
UPDATE docray.bulk_runs
   SET lease_until = clock_timestamp() + make_interval(secs => $3), seconds = seconds + $4, version = version + 1, updated_at = clock_timestamp()
 WHERE tenant_id = {tenant} AND id = $1 AND fence = $2 AND state = 'running'
RETURNING fence;

-- name: set_pace
-- How much of their time the run's operators may work from now on.
UPDATE docray.bulk_runs SET pace = $3, version = version + 1, updated_at = clock_timestamp()
 WHERE tenant_id = {tenant} AND id = $1 AND fence = $2 AND state = 'running'
RETURNING fence;

-- name: hold
-- Whether a driver still drives; the run stays as it is until the transaction ends.
SELECT fence FROM docray.bulk_runs WHERE tenant_id = {tenant} AND id = $1 AND fence = $2 AND state = 'running' FOR KEY SHARE;

-- name: finish
-- Ends the run.
UPDATE docray.bulk_runs
   SET state = CASE WHEN $3::text IS NULL THEN 'done' ELSE 'failed' END, error_code = $3, error_message = $4, lease_until = clock_timestamp(),
       ended_at = clock_timestamp(), version = version + 1, updated_at = clock_timestamp()
 WHERE tenant_id = {tenant} AND id = $1 AND fence = $2 AND state = 'running'
RETURNING *, false AS driven;

-- name: add_files
-- Files of a run. Known is what an earlier run of the tenant ended, unchanged since, whose document is still there; a file that could not be
-- read is known too, with its reason: the same bytes would fail again. A missing service is no such reason.
WITH given AS (
    SELECT (SELECT coalesce(max(f.n) + 1, 0) FROM docray.bulk_files f WHERE f.tenant_id = $1 AND f.run_id = $2)
           + (row_number() OVER (ORDER BY r.place) - 1)::integer AS n, r.uri, r.size_bytes, r.etag, r.title, r.metadata
      FROM unnest($3::text[], $4::bigint[], $5::text[], $6::text[], $7::jsonb[]) WITH ORDINALITY r (uri, size_bytes, etag, title, metadata, place)
     WHERE NOT EXISTS (SELECT FROM docray.bulk_files f WHERE f.tenant_id = $1 AND f.run_id = $2 AND f.uri = r.uri)
), made AS (
    INSERT INTO docray.bulk_files (tenant_id, run_id, n, uri, size_bytes, etag, title, metadata, state, document_id, failure_code, failure_message)
    SELECT $1, $2, g.n, g.uri, g.size_bytes, g.etag, g.title, g.metadata, CASE WHEN before.n IS NULL THEN 'pending' ELSE 'known' END,
           before.document_id, before.failure_code, before.failure_message
      FROM given g
      LEFT JOIN LATERAL (
            SELECT f.n, f.document_id, f.failure_code, f.failure_message FROM docray.bulk_files f
             WHERE f.tenant_id = $1 AND md5(f.uri) = md5(g.uri) AND f.uri = g.uri AND f.size_bytes = g.size_bytes AND f.etag = g.etag
               AND f.run_id <> $2 AND f.state IN ('ready', 'duplicate', 'known', 'failed') AND f.failure_code IS DISTINCT FROM 'dependency'
               AND (f.document_id IS NULL
                    OR EXISTS (SELECT FROM docray.documents d WHERE d.tenant_id = $1 AND d.id = f.document_id AND d.deleted_at IS NULL))
             LIMIT 1) before ON true
    RETURNING state
)
UPDATE docray.bulk_runs r
   SET files = r.files + made.files, known = r.known + made.known, version = r.version + 1, updated_at = clock_timestamp()
  FROM (SELECT count(*) AS files, count(*) FILTER (WHERE state = 'known') AS known FROM made) made
 WHERE r.tenant_id = $1 AND r.id = $2;

-- name: waiting
-- Files of a range that still need work.
SELECT n, uri, size_bytes, etag, title, metadata, document_id FROM docray.bulk_files
 WHERE tenant_id = {tenant} AND run_id = $1 AND n >= $2 AND n < $3 AND state IN ('pending', 'taken') ORDER BY n;

-- name: settle
-- Ends files that were taken and whose document has ended without the run: an ingest worker took it up, or it was deleted.
WITH ended AS (
    UPDATE docray.bulk_files f
       SET state = CASE WHEN d.state = 'ready' THEN 'ready' ELSE 'failed' END, pages = d.page_count, chunks = d.chunk_count,
           failure_code = CASE WHEN d.id IS NULL THEN 'deleted' WHEN d.state = 'failed' THEN coalesce(g.failure_code, 'dependency') END,
           failure_message = CASE WHEN d.id IS NULL THEN 'The document was deleted while it was ingested.' WHEN d.state = 'failed' THEN g.failure_message END
      FROM docray.bulk_files t
      LEFT JOIN docray.documents d ON d.tenant_id = t.tenant_id AND d.id = t.document_id AND d.deleted_at IS NULL
      LEFT JOIN docray.generations g ON g.tenant_id = d.tenant_id AND g.document_id = d.id AND g.generation = d.next_generation - 1
     WHERE t.tenant_id = {tenant} AND t.run_id = $1 AND t.state = 'taken' AND (d.id IS NULL OR d.state IN ('ready', 'failed'))
       AND f.tenant_id = t.tenant_id AND f.run_id = t.run_id AND f.n = t.n
    RETURNING f.state, f.pages, f.chunks, f.size_bytes
), counted AS (
    SELECT count(*) AS files, count(*) FILTER (WHERE state = 'ready') AS ready, count(*) FILTER (WHERE state = 'failed') AS failed,
           coalesce(sum(pages), 0) AS pages, coalesce(sum(chunks), 0) AS chunks, coalesce(sum(size_bytes), 0) AS size_bytes
      FROM ended
)
UPDATE docray.bulk_runs r
   SET ready = r.ready + c.ready, failed = r.failed + c.failed, pages = r.pages + c.pages, chunks = r.chunks + c.chunks,
       size_bytes = r.size_bytes + c.size_bytes, version = r.version + 1, updated_at = clock_timestamp()
  FROM counted c WHERE r.tenant_id = {tenant} AND r.id = $1
RETURNING c.files;

-- name: take_generation
-- Leases the newest generation of a document: free, or held by an earlier try of the same run ($3: how its owners begin).
UPDATE docray.generations g
   SET fence = g.fence + 1, lease_owner = $2, lease_until = clock_timestamp() + make_interval(secs => $4)
  FROM docray.documents d
 WHERE d.tenant_id = {tenant} AND d.id = $1 AND d.deleted_at IS NULL AND g.tenant_id = d.tenant_id AND g.document_id = d.id AND g.generation = d.next_generation - 1
   AND g.state IN ('queued', 'parsed', 'embedded', 'indexed') AND g.reindex_id IS NULL
   AND (g.lease_until IS NULL OR g.lease_until <= clock_timestamp() OR starts_with(g.lease_owner, $3))
   AND NOT EXISTS (SELECT FROM docray.purges p WHERE p.tenant_id = g.tenant_id AND p.document_id = g.document_id AND p.generation = g.generation)
RETURNING g.tenant_id, g.document_id, g.generation, g.state, g.fence, g.attempt, g.lease_until, g.blob_key,
          coalesce(g.filename, d.filename) AS filename, d.title, g.size_bytes;

-- name: document_of
-- The document of a file.
SELECT document_id FROM docray.bulk_files WHERE tenant_id = {tenant} AND run_id = $1 AND n = $2;

-- name: note_taken
-- A file's document, as long as the file has not ended.
UPDATE docray.bulk_files SET state = 'taken', document_id = $3 WHERE tenant_id = {tenant} AND run_id = $1 AND n = $2 AND state IN ('pending', 'taken');

-- name: end_file
-- How a file ended, once, and the run's counters with it.
WITH ended AS (
    UPDATE docray.bulk_files
       SET state = $3, document_id = coalesce($4, document_id), failure_code = $5, failure_message = $6, pages = $7, chunks = $8
     WHERE tenant_id = {tenant} AND run_id = $1 AND n = $2 AND state IN ('pending', 'taken')
    RETURNING state
)
UPDATE docray.bulk_runs r
   SET ready = r.ready + (e.state = 'ready')::integer, failed = r.failed + (e.state = 'failed')::integer,
       duplicate = r.duplicate + (e.state = 'duplicate')::integer, pages = r.pages + $7, chunks = r.chunks + $8, size_bytes = r.size_bytes + $9,
       version = r.version + 1, updated_at = clock_timestamp()
  FROM ended e WHERE r.tenant_id = {tenant} AND r.id = $1;

-- name: failures
-- Files that could not be ingested, in order, with why.
SELECT n, uri, failure_code, failure_message FROM docray.bulk_files WHERE tenant_id = {tenant} AND run_id = $1 AND failure_code IS NOT NULL ORDER BY n LIMIT $2;

-- name: failure_counts
-- How many files failed, by reason.
SELECT failure_code, count(*) AS files FROM docray.bulk_files WHERE tenant_id = {tenant} AND run_id = $1 AND failure_code IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1;
