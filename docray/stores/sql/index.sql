-- name: prepare_space
-- Makes the graph of an embedding space, or does nothing.
SELECT docray.prepare_vector_space($1, $2);

-- name: write_vectors
-- Chunks with their vectors as text.
INSERT INTO docray.chunk_vectors AS v (tenant_id, document_id, generation, n, space, chunk_id, embedding)
SELECT $1, $2, $3, r.n, $4, r.chunk_id, r.embedding::halfvec FROM unnest($5::integer[], $6::uuid[], $7::text[]) r (n, chunk_id, embedding)
ON CONFLICT (tenant_id, document_id, generation, n, space) DO UPDATE SET chunk_id = excluded.chunk_id, embedding = excluded.embedding
 WHERE v.chunk_id <> excluded.chunk_id OR v.embedding <> excluded.embedding;

-- name: parts_of_chunks
-- Parts of a generation that share chunks with a run of them.
SELECT part, terms FROM docray.keyword_parts
 WHERE tenant_id = $1 AND document_id = $2 AND generation = $3 AND first_n <= $5 AND last_n >= $4 FOR UPDATE;

-- name: parts_of_document
-- Some parts of a generation (NULL: of all) of a document, never of one that may answer.
SELECT part, terms FROM docray.keyword_parts
 WHERE tenant_id = $1 AND document_id = $2 AND ($3::integer IS NULL OR generation = $3)
   AND NOT EXISTS (SELECT FROM docray.generations g WHERE g.tenant_id = $1 AND g.document_id = $2 AND g.generation = $3 AND g.state = 'ready')
 LIMIT $4 FOR UPDATE;

-- name: write_part
-- A part without its postings.
INSERT INTO docray.keyword_parts (tenant_id, part, document_id, generation, first_n, last_n, chunks, pages, terms)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- name: write_postings
-- Postings of some terms of a part.
INSERT INTO docray.keyword_postings (tenant_id, term, part, postings)
SELECT $1, r.term, $2, r.postings FROM unnest($3::integer[], $4::bytea[]) r (term, postings);

-- name: remove_postings
-- Removes the postings of some terms of a part.
DELETE FROM docray.keyword_postings WHERE tenant_id = $1 AND part = $2 AND term = ANY ($3::integer[]);

-- name: remove_part
-- Removes a part, whose postings are gone.
DELETE FROM docray.keyword_parts WHERE tenant_id = $1 AND part = $2;

-- name: remove_vectors
-- Removes some vectors of a generation (NULL: of all) of a document. Never those of a generation that may answer: the purger of an earlier
-- try of it may have slept past its lease.
WITH batch AS (
    SELECT document_id, generation, n, space FROM docray.chunk_vectors
     WHERE tenant_id = $1 AND document_id = $2 AND ($3::integer IS NULL OR generation = $3)
       AND NOT EXISTS (SELECT FROM docray.generations g WHERE g.tenant_id = $1 AND g.document_id = $2 AND g.generation = $3 AND g.state = 'ready')
     LIMIT $4
), gone AS (
    DELETE FROM docray.chunk_vectors v USING batch
     WHERE v.tenant_id = $1 AND v.document_id = batch.document_id AND v.generation = batch.generation AND v.n = batch.n AND v.space = batch.space
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: count
-- Chunks of a generation.
SELECT count(DISTINCT n) FROM docray.chunk_vectors WHERE tenant_id = $1 AND document_id = $2 AND generation = $3;

-- name: measure
-- What is known of the tenant: parts, the last one's key, chunks and pages of its first parts by key, from which its size is estimated,
-- whether any of its text is indexed by n-grams ($3 is their mark), and the epoch of its corpus. The shape is that of `postings`, with place 0.
SELECT 0::bigint AS place,
       int8send(count(*)) || int8send(coalesce(max(part), 0)) || int8send(coalesce(sum(chunks), 0)::bigint)
           || int8send(coalesce(sum(pages), 0)::bigint)
           || int8send((EXISTS (SELECT FROM docray.keyword_postings g WHERE g.tenant_id = $1 AND g.term = $3))::integer::bigint)
           || coalesce((SELECT int8send(t.corpus_epoch) FROM docray.tenants t WHERE t.tenant_id = $1), '') AS parts,
       NULL::bytea AS sizes, NULL::bytea AS postings
  FROM (SELECT k.part, k.chunks, k.pages FROM docray.keyword_parts k WHERE k.tenant_id = $1 ORDER BY k.part LIMIT $2) sample

-- name: epoch
-- The epoch of the tenant's corpus, in the shape of `postings` with place 0.
SELECT 0::bigint AS place, int8send(t.corpus_epoch) AS parts, NULL::bytea AS sizes, NULL::bytea AS postings
  FROM docray.tenants t WHERE t.tenant_id = $1

-- name: epoch_of_ranking
-- The same in the shape of `ranked`, as a part.
SELECT 0::bigint AS place, NULL::uuid AS chunk_id, NULL::double precision AS score, t.corpus_epoch AS part, NULL::integer AS n
  FROM docray.tenants t WHERE t.tenant_id = $1

-- name: parts_known
-- How many of some parts there are.
SELECT count(*) FROM docray.keyword_parts WHERE tenant_id = $1 AND part = ANY ($2::text::bigint[]);

-- name: vectors_of_all
-- About how many vectors the table holds, of all tenants.
SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = 'docray.chunk_vectors'::regclass;

-- name: parts_in_scope
-- Parts of live generations of the documents in a restricted scope.
SELECT k.part, k.chunks, k.pages
  FROM docray.documents d
  JOIN docray.keyword_parts k ON k.tenant_id = d.tenant_id AND k.document_id = d.id AND k.generation = d.live_generation
 WHERE d.tenant_id = $1 AND d.deleted_at IS NULL AND ({filter});

-- name: has_passage
-- The condition on documents `d` that one of their passages is in scope.
EXISTS (SELECT FROM docray.chunks c
         WHERE c.tenant_id = d.tenant_id AND c.document_id = d.id AND c.generation = d.live_generation AND ({filter}))

-- name: postings
-- The first rows by part of each term, packed, with the term's place from 1. `within` may restrict the parts.
SELECT t.place, r.parts, r.sizes, r.postings
  FROM unnest({terms}::text::integer[]) WITH ORDINALITY t (term, place)
 CROSS JOIN LATERAL (
    SELECT string_agg(int8send(s.part), '') AS parts, string_agg(int4send(octet_length(s.postings)), '') AS sizes,
           string_agg(s.postings, '') AS postings
      FROM (SELECT p.part, p.postings FROM docray.keyword_postings p
             WHERE p.tenant_id = $1 AND p.term = t.term {within} ORDER BY p.part LIMIT {limit}) s) r
 WHERE r.parts IS NOT NULL

-- name: ranked
-- Chunk ids of (part, chunk number) pairs, with their places among them from 1. OFFSET 0 keeps the planner to one index probe a pair: without
-- it a plan for all values reads each pair's whole document and compares numbers, three times as much work.
SELECT k.place, v.chunk_id, NULL::double precision AS score, k.part, k.n
  FROM unnest({parts}::text::bigint[], {ns}::text::integer[]) WITH ORDINALITY k (part, n, place)
  JOIN docray.keyword_parts p ON p.tenant_id = $1 AND p.part = k.part
 CROSS JOIN LATERAL (
        SELECT w.chunk_id, w.space, w.embedding FROM docray.chunk_vectors w
         WHERE w.tenant_id = $1 AND w.document_id = p.document_id AND w.generation = p.generation AND w.n = k.n OFFSET 0) v

-- name: ranked_and_near
-- The same with their inner products, NULL by the vectors of another space: a document that this model has not embedded is found by its words.
SELECT k.place, v.chunk_id, CASE WHEN v.space = {space} THEN -(v.embedding <#> (SELECT $2::text::halfvec)) END AS score, k.part, k.n
  FROM unnest({parts}::text::bigint[], {ns}::text::integer[]) WITH ORDINALITY k (part, n, place)
  JOIN docray.keyword_parts p ON p.tenant_id = $1 AND p.part = k.part
 CROSS JOIN LATERAL (
        SELECT w.chunk_id, w.space, w.embedding FROM docray.chunk_vectors w
         WHERE w.tenant_id = $1 AND w.document_id = p.document_id AND w.generation = p.generation AND w.n = k.n OFFSET 0) v

-- name: ranked_in_scope
-- Chunk ids of the pairs that a scope's conditions on passages hold for; $2 pairs went before.
SELECT $2::bigint + k.place AS place, c.chunk_id, NULL::double precision AS score, k.part, k.n
  FROM unnest({parts}::text::bigint[], {ns}::text::integer[]) WITH ORDINALITY k (part, n, place)
  JOIN docray.keyword_parts p ON p.tenant_id = $1 AND p.part = k.part
  JOIN docray.documents d ON d.tenant_id = $1 AND d.id = p.document_id AND d.live_generation = p.generation AND d.deleted_at IS NULL
  JOIN docray.chunks c ON c.tenant_id = $1 AND c.document_id = p.document_id AND c.generation = p.generation AND c.n = k.n
 WHERE {filter}

-- name: nearest
-- Nearest chunks by inner product, all of the tenant's compared: the sum keeps the graph out of use.
SELECT NULL::bigint AS place, v.chunk_id, -(v.embedding <#> (SELECT $2::text::halfvec)) AS score, v.document_id, v.generation, v.n
  FROM docray.chunk_vectors v
 WHERE v.tenant_id = $1 AND v.space = {space}
 ORDER BY (v.embedding <#> (SELECT $2::text::halfvec)) + 0.0 LIMIT $3

-- name: nearest_by_graph
-- Nearest chunks by inner product, as the graph of the space finds them.
SELECT NULL::bigint AS place, v.chunk_id, -(v.embedding::halfvec({dimension}) <#> (SELECT $2::text::halfvec({dimension}))) AS score,
       v.document_id, v.generation, v.n
  FROM docray.chunk_vectors v
 WHERE v.tenant_id = $1 AND v.space = {space}
 ORDER BY v.embedding::halfvec({dimension}) <#> (SELECT $2::text::halfvec({dimension})) LIMIT $3

-- name: nearest_in_scope
-- Nearest chunks of live generations in a restricted scope, all of them compared.
SELECT NULL::bigint AS place, v.chunk_id, -(v.embedding <#> (SELECT $2::text::halfvec)) AS score, v.document_id, v.generation, v.n
  FROM docray.documents d
  JOIN docray.chunk_vectors v ON v.tenant_id = d.tenant_id AND v.document_id = d.id AND v.generation = d.live_generation AND v.space = {space}
  {chunks}
 WHERE d.tenant_id = $1 AND d.deleted_at IS NULL AND ({filter})
 ORDER BY (v.embedding <#> (SELECT $2::text::halfvec)) + 0.0 LIMIT $3

-- name: nearest_in_scope_by_graph
-- Nearest chunks in a large restricted scope, as the graph of the space finds them.
SELECT NULL::bigint AS place, v.chunk_id, -(v.embedding::halfvec({dimension}) <#> (SELECT $2::text::halfvec({dimension}))) AS score,
       v.document_id, v.generation, v.n
  FROM docray.chunk_vectors v
 WHERE v.tenant_id = $1 AND v.space = {space}
   AND EXISTS (SELECT FROM docray.documents d {chunks}
                WHERE d.tenant_id = $1 AND d.id = v.document_id AND d.live_generation = v.generation AND d.deleted_at IS NULL AND ({filter}))
 ORDER BY v.embedding::halfvec({dimension}) <#> (SELECT $2::text::halfvec({dimension})) LIMIT $3

-- name: chunks_join
-- What brings in the passages that a filter speaks of.
JOIN docray.chunks c ON c.tenant_id = d.tenant_id AND c.document_id = d.id AND c.generation = v.generation AND c.n = v.n

-- name: answering
-- Those of the found that belong to generations that answer.
SELECT f.place, f.chunk_id, f.score, f.part, f.n
  FROM ({found}) f
  JOIN docray.chunks c ON c.tenant_id = $1 AND c.chunk_id = f.chunk_id
  JOIN docray.documents d ON d.tenant_id = $1 AND d.id = c.document_id AND d.live_generation = c.generation AND d.deleted_at IS NULL

-- name: drop_vectors
-- Removes some of a tenant's vectors in a space, of chunks that another space has too: a chunk without a vector would not be found by its
-- words either. Only as long as reindex $3 has ended and is the one to drop them, and no other one is open.
WITH batch AS (
    SELECT v.document_id, v.generation, v.n, v.space FROM docray.chunk_vectors v
     WHERE v.tenant_id = $1 AND v.space = $2
       AND EXISTS (SELECT FROM docray.chunk_vectors o WHERE o.tenant_id = $1 AND o.document_id = v.document_id AND o.generation = v.generation
                      AND o.n = v.n AND o.space <> $2)
       AND EXISTS (SELECT FROM docray.reindexes r WHERE r.tenant_id = $1 AND r.id = $3 AND r.dropping IS NOT NULL)
       AND NOT EXISTS (SELECT FROM docray.reindexes r WHERE r.tenant_id = $1 AND r.state IN ('building', 'switched'))
     LIMIT $4
), gone AS (
    DELETE FROM docray.chunk_vectors v USING batch
     WHERE v.tenant_id = $1 AND v.document_id = batch.document_id AND v.generation = batch.generation AND v.n = batch.n AND v.space = batch.space
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: with_parts
-- The nearest with the parts that hold their keywords.
SELECT near.place, near.chunk_id, near.score, k.part, near.n
  FROM ({nearest}) near
  LEFT JOIN docray.keyword_parts k ON k.tenant_id = $1 AND k.document_id = near.document_id AND k.generation = near.generation
                                  AND near.n BETWEEN k.first_n AND k.last_n
