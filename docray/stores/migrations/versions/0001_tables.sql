-- Tables of the catalogue. Every one begins its keys with tenant_id and shows a session the rows of its tenant only.
SET LOCAL ROLE docray_owner;

-- The one policy: rows of the transaction's tenant, none where no tenant is set (NULLIF: a used connection has '' there, not NULL).
CREATE PROCEDURE docray.isolate_tenants(p_table regclass)
    LANGUAGE plpgsql
AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', p_table);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', p_table);
    EXECUTE format(
        'CREATE POLICY tenant_isolation ON %s FOR ALL TO PUBLIC'
        ' USING (tenant_id = NULLIF(current_setting(''app.tenant_id'', true), '''')::uuid)'
        ' WITH CHECK (tenant_id = NULLIF(current_setting(''app.tenant_id'', true), '''')::uuid)', p_table);
END
$$;

-- --- who ------------------------------------------------------------------------------------------------------------

-- Names of tenants are unique by docray.create_tenant, not by a constraint: a constraint would tell one tenant of another.
CREATE TABLE docray.tenants (
    tenant_id    uuid PRIMARY KEY,
    name         text NOT NULL,
    corpus_epoch bigint NOT NULL DEFAULT 0,
    created_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX tenants_name ON docray.tenants (name);

CREATE TABLE docray.users (
    tenant_id  uuid NOT NULL REFERENCES docray.tenants,
    id         uuid NOT NULL,
    name       text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);

CREATE TABLE docray.api_keys (
    tenant_id    uuid NOT NULL REFERENCES docray.tenants,
    id           uuid NOT NULL,
    user_id      uuid,
    name         text NOT NULL,
    scopes       text[] NOT NULL,
    operator     boolean NOT NULL DEFAULT false,
    prefix       text NOT NULL,
    secret_hash  bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    last_used_at timestamptz,
    revoked_at   timestamptz,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, secret_hash),
    FOREIGN KEY (tenant_id, user_id) REFERENCES docray.users
);
CREATE INDEX api_keys_secret ON docray.api_keys (secret_hash);
CREATE INDEX api_keys_newest ON docray.api_keys (tenant_id, created_at DESC, id DESC);

-- --- documents ------------------------------------------------------------------------------------------------------

CREATE TABLE docray.documents (
    tenant_id       uuid NOT NULL REFERENCES docray.tenants,
    id              uuid NOT NULL,
    owner_id        uuid,
    filename        text NOT NULL,
    title           text,
    metadata        jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
    state           text NOT NULL CHECK (state IN ('awaiting_blob', 'queued', 'parsed', 'embedded', 'indexed', 'ready', 'failed', 'deleting')),
    live_generation integer,
    next_generation integer NOT NULL,
    sha256          text NOT NULL,
    size_bytes      bigint NOT NULL,
    page_count      integer,
    chunk_count     integer,
    version         bigint NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    ready_at        timestamptz,
    deleted_at      timestamptz,
    -- Words of file name and title; ASCII punctuation parts them, so that `annual summary.pdf` has the word `summary`.
    words           tsvector NOT NULL GENERATED ALWAYS AS (
        to_tsvector('pg_catalog.simple', regexp_replace(filename || ' ' || left(coalesce(title, ''), 10000), '[!-/:-@\[-`{-~]+', ' ', 'g'))
    ) STORED,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, owner_id) REFERENCES docray.users,
    CHECK ((state = 'deleting') = (deleted_at IS NOT NULL)),
    CHECK (live_generation IS NULL OR state IN ('ready', 'deleting'))
) WITH (fillfactor = 80);  -- room for updates of version in place
CREATE INDEX documents_newest ON docray.documents (tenant_id, created_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX documents_of_owner ON docray.documents (tenant_id, owner_id, created_at DESC);
CREATE INDEX documents_active ON docray.documents (tenant_id, state, created_at DESC, id DESC)
    WHERE state IN ('awaiting_blob', 'queued', 'parsed', 'embedded', 'indexed', 'failed');
CREATE INDEX documents_of_content ON docray.documents (tenant_id, sha256) WHERE deleted_at IS NULL;
CREATE INDEX documents_of_filename ON docray.documents (tenant_id, filename) WHERE deleted_at IS NULL;
CREATE INDEX documents_words ON docray.documents USING gin (words);

-- A generation is a PDF of a document and the job that ingests it, in one row.
CREATE TABLE docray.generations (
    tenant_id         uuid NOT NULL,
    document_id       uuid NOT NULL,
    generation        integer NOT NULL CHECK (generation >= 1),
    state             text NOT NULL CHECK (state IN ('awaiting_blob', 'queued', 'parsed', 'embedded', 'indexed', 'ready', 'failed', 'deleting')),
    stage             text NOT NULL DEFAULT 'queued',
    pages_done        integer NOT NULL DEFAULT 0,
    pages_total       integer,
    failure_code      text,
    failure_message   text,
    failure_retryable boolean,
    sha256            text NOT NULL,
    size_bytes        bigint NOT NULL,
    filename          text,
    title             text,
    blob_key          text NOT NULL,
    page_count        integer,
    chunk_count       integer,
    embedding_model   text,
    dimension         integer,
    fence             bigint NOT NULL DEFAULT 0,
    lease_owner       text,
    lease_until       timestamptz,
    attempt           integer NOT NULL DEFAULT 1,
    takeovers         integer NOT NULL DEFAULT 0,
    next_try_at       timestamptz NOT NULL DEFAULT now(),
    created_at        timestamptz NOT NULL DEFAULT now(),
    ready_at          timestamptz,
    PRIMARY KEY (tenant_id, document_id, generation),
    FOREIGN KEY (tenant_id, document_id) REFERENCES docray.documents ON DELETE CASCADE,
    CHECK ((state = 'failed') <= (failure_code IS NOT NULL))
) WITH (fillfactor = 80);
CREATE INDEX generations_active ON docray.generations (tenant_id, next_try_at) WHERE state IN ('queued', 'parsed', 'embedded', 'indexed');
CREATE INDEX generations_blob ON docray.generations (blob_key);

-- `layout` holds words and blocks, packed by docray.stores.page_layout; they are read together or not at all.
CREATE TABLE docray.pages (
    tenant_id   uuid NOT NULL,
    document_id uuid NOT NULL,
    generation  integer NOT NULL,
    number      integer NOT NULL CHECK (number >= 1),
    width       double precision NOT NULL,
    height      double precision NOT NULL,
    rotation    smallint NOT NULL,
    text        text NOT NULL,
    layout      bytea NOT NULL,
    PRIMARY KEY (tenant_id, document_id, generation, number),
    FOREIGN KEY (tenant_id, document_id, generation) REFERENCES docray.generations ON DELETE CASCADE
);
ALTER TABLE docray.pages ALTER COLUMN layout SET STORAGE EXTERNAL;  -- is compressed already

-- `after` stands between this chunk and the next in the page's text.
CREATE TABLE docray.chunks (
    tenant_id    uuid NOT NULL,
    document_id  uuid NOT NULL,
    generation   integer NOT NULL,
    n            integer NOT NULL CHECK (n >= 0),
    chunk_id     uuid NOT NULL,
    text         text NOT NULL,
    after        text NOT NULL,
    heading_path text[] NOT NULL,
    context      text NOT NULL,
    spans        jsonb NOT NULL,
    pages        jsonb NOT NULL,
    page_numbers integer[] NOT NULL,
    tokens       integer NOT NULL,
    PRIMARY KEY (tenant_id, document_id, generation, n),
    UNIQUE (tenant_id, chunk_id),
    FOREIGN KEY (tenant_id, document_id, generation) REFERENCES docray.generations ON DELETE CASCADE
);

CREATE TABLE docray.collections (
    tenant_id   uuid NOT NULL REFERENCES docray.tenants,
    id          uuid NOT NULL,
    name        text NOT NULL,
    description text,
    metadata    jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT collections_name UNIQUE (tenant_id, name)
);
CREATE INDEX collections_newest ON docray.collections (tenant_id, created_at DESC, id DESC);

CREATE TABLE docray.collection_documents (
    tenant_id     uuid NOT NULL,
    collection_id uuid NOT NULL,
    document_id   uuid NOT NULL,
    attributes    jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(attributes) = 'object'),
    added_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, collection_id, document_id),
    FOREIGN KEY (tenant_id, collection_id) REFERENCES docray.collections ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, document_id) REFERENCES docray.documents ON DELETE CASCADE
);
CREATE INDEX collections_of_document ON docray.collection_documents (tenant_id, document_id);
CREATE INDEX collection_documents_newest ON docray.collection_documents (tenant_id, collection_id, added_at DESC, document_id DESC);

-- --- work and its records -------------------------------------------------------------------------------------------

-- Orders to remove a generation everywhere (generation NULL: the whole document). They outlive the rows they are about.
CREATE TABLE docray.purges (
    tenant_id   uuid NOT NULL REFERENCES docray.tenants,
    id          uuid NOT NULL,
    document_id uuid NOT NULL,
    generation  integer,
    fence       bigint NOT NULL DEFAULT 0,
    lease_owner text,
    lease_until timestamptz,
    attempts    integer NOT NULL DEFAULT 0,
    next_try_at timestamptz NOT NULL DEFAULT now(),
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT purges_order UNIQUE NULLS NOT DISTINCT (tenant_id, document_id, generation)
);
CREATE INDEX purges_due ON docray.purges (next_try_at);

-- When a tenant's job was leased last: whose turn is next.
CREATE TABLE docray.queue_turns (
    tenant_id uuid PRIMARY KEY REFERENCES docray.tenants,
    leased_at timestamptz NOT NULL
);

CREATE TABLE docray.idempotency_keys (
    tenant_id     uuid NOT NULL REFERENCES docray.tenants,
    principal_id  uuid NOT NULL,
    route         text NOT NULL,
    key           text NOT NULL,
    fingerprint   bytea NOT NULL,
    token         uuid NOT NULL,
    claimed_until timestamptz NOT NULL,
    status        integer,
    content_type  text,
    headers       jsonb,
    body          bytea,
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, principal_id, route, key)
);
CREATE INDEX idempotency_keys_age ON docray.idempotency_keys (created_at);

CREATE TABLE docray.audit_log (
    tenant_id      uuid NOT NULL,
    at             timestamptz NOT NULL DEFAULT clock_timestamp(),
    id             uuid NOT NULL DEFAULT gen_random_uuid(),
    principal_kind text NOT NULL,
    principal_id   uuid,
    action         text NOT NULL,
    object_kind    text NOT NULL,
    object_id      uuid,
    details        jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (tenant_id, at, id)
) PARTITION BY RANGE (at);
CREATE TABLE docray.audit_log_default PARTITION OF docray.audit_log DEFAULT;

CREATE TABLE docray.usage (
    tenant_id   uuid NOT NULL,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    id          uuid NOT NULL DEFAULT gen_random_uuid(),
    kind        text NOT NULL,
    document_id uuid,
    generation  integer,
    pages       integer NOT NULL DEFAULT 0,
    chunks      integer NOT NULL DEFAULT 0,
    size_bytes  bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, at, id)
) PARTITION BY RANGE (at);
CREATE TABLE docray.usage_default PARTITION OF docray.usage DEFAULT;

DO $$
DECLARE
    name regclass;
BEGIN
    FOR name IN SELECT oid FROM pg_class WHERE relnamespace = 'docray'::regnamespace AND relkind IN ('r', 'p') LOOP
        CALL docray.isolate_tenants(name);
    END LOOP;
END
$$;

-- --- what callers see -----------------------------------------------------------------------------------------------

-- A document with its collections and its newest generation. The reader's own rights and policies apply.
CREATE VIEW docray.document_states WITH (security_invoker = true) AS
SELECT d.tenant_id, d.id, d.filename, d.title, d.metadata, d.state, d.live_generation, d.next_generation, d.sha256, d.size_bytes,
       d.page_count, d.chunk_count, d.version, d.created_at, d.updated_at, d.ready_at, d.deleted_at,
       ARRAY(SELECT m.collection_id FROM docray.collection_documents m
              WHERE m.tenant_id = d.tenant_id AND m.document_id = d.id ORDER BY m.added_at, m.collection_id) AS collection_ids,
       g.generation, g.state AS generation_state, g.stage, g.pages_done, g.pages_total,
       g.failure_code, g.failure_message, g.failure_retryable
  FROM docray.documents d
  JOIN LATERAL (SELECT * FROM docray.generations n WHERE n.tenant_id = d.tenant_id AND n.document_id = d.id
                 ORDER BY n.generation DESC LIMIT 1) g ON true;

-- --- rights: what both roles need, then what one of them needs ------------------------------------------------------

GRANT USAGE ON SCHEMA docray TO docray_app, docray_worker, docray_maint;
GRANT SELECT ON docray.tenants, docray.users, docray.api_keys, docray.documents, docray.generations, docray.pages, docray.chunks,
    docray.collections, docray.collection_documents, docray.purges, docray.document_states TO docray_app, docray_worker;
GRANT UPDATE (corpus_epoch) ON docray.tenants TO docray_app, docray_worker;
GRANT INSERT, UPDATE ON docray.documents, docray.generations, docray.purges TO docray_app, docray_worker;
GRANT INSERT ON docray.audit_log, docray.usage TO docray_app, docray_worker;
GRANT INSERT, UPDATE ON docray.api_keys TO docray_app;
GRANT INSERT, UPDATE, DELETE ON docray.collections, docray.collection_documents TO docray_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON docray.idempotency_keys TO docray_app;
GRANT DELETE ON docray.documents, docray.generations, docray.purges TO docray_worker;
GRANT INSERT, UPDATE, DELETE ON docray.pages, docray.chunks TO docray_worker;
REVOKE ALL ON PROCEDURE docray.isolate_tenants(regclass) FROM PUBLIC;

RESET ROLE;
