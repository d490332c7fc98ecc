-- When tables that grow by whole runs are vacuumed and analysed. By PostgreSQL's own rule a table of a million rows gets 200,000 more before
-- its new pages are marked as visible to all, and until then index-only scans read the table too; it gets 100,000 before its statistics
-- follow. Here 2 % are enough. Deletions keep the rule: each vacuum after one passes over the whole graph of vectors.
SET LOCAL ROLE docray_owner;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['documents', 'generations', 'pages', 'chunks', 'chunk_vectors', 'keyword_parts', 'keyword_postings', 'bulk_files'] LOOP
        EXECUTE format('ALTER TABLE docray.%I SET (autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02)', name);
    END LOOP;
END
$$;

RESET ROLE;
