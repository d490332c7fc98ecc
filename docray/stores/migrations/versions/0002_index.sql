-- The index: chunk ids with vectors, and postings of keywords. Rebuildable from docray.chunks; holds no text.
-- Nothing here refers to the catalogue by foreign keys: a purge outlives the rows it is about, and removes what it finds.
CREATE EXTENSION IF NOT EXISTS vector;
SET LOCAL ROLE docray_owner;

-- One row a chunk and embedding space. Vectors are unit vectors in half precision and lie in the row itself, not beside it:
-- an exact search reads every one of a tenant. `space` numbers a model and its dimension.
CREATE TABLE docray.chunk_vectors (
    tenant_id   uuid NOT NULL,
    document_id uuid NOT NULL,
    generation  integer NOT NULL,
    n           integer NOT NULL,
    space       integer NOT NULL,
    chunk_id    uuid NOT NULL,
    embedding   halfvec NOT NULL,
    PRIMARY KEY (tenant_id, document_id, generation, n, space)
) WITH (toast_tuple_target = 8160);

-- A part is a run of chunks of one generation whose keywords were written together. `part` is random-like, so that the first rows by
-- it are a fair sample of all. `terms` are the keys of its postings, to find them again when it goes.
CREATE TABLE docray.keyword_parts (
    tenant_id   uuid NOT NULL,
    part        bigint NOT NULL,
    document_id uuid NOT NULL,
    generation  integer NOT NULL,
    first_n     integer NOT NULL,
    last_n      integer NOT NULL,
    chunks      integer NOT NULL,
    pages       integer NOT NULL,
    terms       integer[] NOT NULL,
    PRIMARY KEY (tenant_id, part)
);
CREATE INDEX keyword_parts_of_document ON docray.keyword_parts (tenant_id, document_id, generation);

-- One row a term and part; `postings` are the records of docray.stores.keyword_postings. A B-tree and not GIN: its equality is
-- leakproof, so that it works under row-level security, and its key begins with the tenant, so that nobody reads past others' rows.
CREATE TABLE docray.keyword_postings (
    tenant_id uuid NOT NULL,
    term      integer NOT NULL,
    part      bigint NOT NULL,
    postings  bytea NOT NULL,
    PRIMARY KEY (tenant_id, term, part)
) WITH (toast_tuple_target = 8160);
ALTER TABLE docray.keyword_postings ALTER COLUMN postings SET STORAGE EXTERNAL;

CALL docray.isolate_tenants('docray.chunk_vectors');
CALL docray.isolate_tenants('docray.keyword_parts');
CALL docray.isolate_tenants('docray.keyword_postings');

-- Makes the graph of an embedding space when its first vectors come. Indexes are per space: those of two models never mix.
CREATE FUNCTION docray.prepare_vector_space(p_space integer, p_dimension integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    name       text := format('chunk_vectors_space_%s', p_space);
    of_vectors text := (SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector');
BEGIN
    IF to_regclass('docray.' || name) IS NOT NULL THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('docray.prepare_vector_space'));
    EXECUTE format(
        'CREATE INDEX IF NOT EXISTS %1$I ON docray.chunk_vectors USING hnsw ((embedding::%2$I.halfvec(%3$s)) %2$I.halfvec_ip_ops) WHERE space = %4$s',
        name, of_vectors, p_dimension, p_space);
END
$$;
REVOKE ALL ON FUNCTION docray.prepare_vector_space(integer, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION docray.prepare_vector_space(integer, integer) TO docray_worker;

GRANT SELECT ON docray.chunk_vectors, docray.keyword_parts, docray.keyword_postings TO docray_app, docray_worker;
GRANT INSERT, UPDATE, DELETE ON docray.chunk_vectors, docray.keyword_parts, docray.keyword_postings TO docray_worker;

RESET ROLE;
