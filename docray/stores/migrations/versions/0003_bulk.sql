-- Bulk ingestion: one row a run, one row a file of it. Documents and generations are those of every other upload: a run leases its
-- generations like a worker does, so whatever it drops is taken up by the next run or by an ingest worker.
SET LOCAL ROLE docray_owner;

-- `fence` grows with each driver that takes the run on; nothing of an older driver is recorded. A run that is `running` while its lease has
-- run out was interrupted. The counters are of files; `known` are those that an earlier run had ingested.
CREATE TABLE docray.bulk_runs (
    tenant_id     uuid NOT NULL REFERENCES docray.tenants,
    id            uuid NOT NULL,
    source        text NOT NULL,
    collection_id uuid,
    state         text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done', 'failed')),
    error_code    text,
    error_message text,
    fence         bigint NOT NULL DEFAULT 0,
    lease_until   timestamptz NOT NULL DEFAULT now(),
    files         integer NOT NULL DEFAULT 0,
    known         integer NOT NULL DEFAULT 0,
    ready         integer NOT NULL DEFAULT 0,
    failed        integer NOT NULL DEFAULT 0,
    duplicate     integer NOT NULL DEFAULT 0,
    pages         bigint NOT NULL DEFAULT 0,
    chunks        bigint NOT NULL DEFAULT 0,
    size_bytes    bigint NOT NULL DEFAULT 0,
    seconds       double precision NOT NULL DEFAULT 0,
    version       bigint NOT NULL DEFAULT 1,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    ended_at      timestamptz,
    PRIMARY KEY (tenant_id, id)
) WITH (fillfactor = 70);  -- the counters are updated in place
CREATE INDEX bulk_runs_newest ON docray.bulk_runs (tenant_id, created_at DESC, id DESC);

-- `etag` is what the source says of the bytes without reading them: the store's ETag, or size and time. `pending` files wait, `taken` ones
-- have a document that the run holds or held.
CREATE TABLE docray.bulk_files (
    tenant_id       uuid NOT NULL,
    run_id          uuid NOT NULL,
    n               integer NOT NULL CHECK (n >= 0),
    uri             text NOT NULL,
    size_bytes      bigint NOT NULL,
    etag            text NOT NULL,
    title           text,
    metadata        jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
    state           text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'taken', 'ready', 'failed', 'duplicate', 'known')),
    document_id     uuid,
    failure_code    text,
    failure_message text,
    pages           integer,
    chunks          integer,
    PRIMARY KEY (tenant_id, run_id, n),
    FOREIGN KEY (tenant_id, run_id) REFERENCES docray.bulk_runs ON DELETE CASCADE,
    CONSTRAINT bulk_files_once UNIQUE (tenant_id, run_id, uri)
);
CREATE INDEX bulk_files_ended ON docray.bulk_files (tenant_id, md5(uri)) WHERE state IN ('ready', 'duplicate', 'known', 'failed');

CALL docray.isolate_tenants('docray.bulk_runs');
CALL docray.isolate_tenants('docray.bulk_files');

GRANT SELECT, INSERT, UPDATE ON docray.bulk_runs, docray.bulk_files TO docray_app, docray_worker;

RESET ROLE;
