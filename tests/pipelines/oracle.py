"""What must hold of a tenant when everything has come to rest, whatever was killed: `reference/reliability.md`'s invariants."""

from collections import Counter
from pathlib import Path

import asyncpg

from docray.domain.ids import blob_key, chunk_id


async def problems(connection: asyncpg.Connection, tenant_id: object, blobs: Path) -> list[str]:
    """A sentence for each invariant that does not hold. `connection` is the superuser's, `blobs` the store's folder."""
    found: list[str] = []
    documents = await connection.fetch("SELECT * FROM docray.documents WHERE tenant_id = $1", tenant_id)
    found += [f"I1 document {row['id']} is {row['state']}" for row in documents if row["state"] not in ("ready", "failed")]
    for row in documents:
        if row["state"] == "ready":
            found += await _ready_problems(connection, row, blobs)
            found += await _beside_problems(connection, row)
    generations = await connection.fetch("SELECT * FROM docray.generations WHERE tenant_id = $1", tenant_id)
    owned = {row["blob_key"] for row in generations}
    found += [
        f"I3 generation {row['generation']} of {row['document_id']} has another's blob"
        for row in generations
        if row["blob_key"] != blob_key(tenant_id, row["document_id"], row["content_generation"] or row["generation"])
    ]
    stored = {path.relative_to(blobs / "objects").as_posix() for path in (blobs / "objects" / str(tenant_id)).rglob("*.pdf")}
    found += [f"I3 blob {key} is missing" for key in owned - stored] + [f"I3 blob {key} has no owner" for key in stored - owned]
    hashes = Counter(row["sha256"] for row in documents)
    found += [f"the same bytes are {count} documents" for count in hashes.values() if count > 1]
    held = await connection.fetchval(
        "SELECT count(*) FROM docray.generations WHERE tenant_id = $1 AND state IN ('queued', 'parsed', 'embedded', 'indexed')", tenant_id
    )
    found += [f"I6 {held} generations are still in work"] if held else []
    audited = await connection.fetchval(
        "SELECT count(*) FROM docray.audit_log WHERE tenant_id = $1 AND action = 'document.published'", tenant_id
    )
    published = sum(row["state"] == "ready" for row in documents)
    found += [f"I5 {audited} audit rows tell of {published} publishes"] if audited != published else []
    used = await connection.fetchrow("SELECT coalesce(sum(pages), 0) AS pages, count(*) AS rows FROM docray.usage WHERE tenant_id = $1", tenant_id)
    pages = sum(row["page_count"] for row in documents if row["state"] == "ready")
    found += [f"I7 usage says {used['pages']} pages, the documents {pages}"] if used["pages"] != pages else []
    return found


async def _beside_problems(connection: asyncpg.Connection, document: asyncpg.Record) -> list[str]:
    """Generations beside the one that answers: kept or waiting for a switch while a reindex is open, none afterwards; rows of no others."""
    identity = (document["tenant_id"], document["id"])
    ready = await connection.fetch(
        "SELECT generation, chunk_count FROM docray.generations WHERE tenant_id = $1 AND document_id = $2 AND state = 'ready'", *identity
    )
    is_open = await connection.fetchval(
        "SELECT count(*) FROM docray.reindexes WHERE tenant_id = $1 AND state IN ('building', 'switched')", document["tenant_id"]
    )
    found = [] if is_open or len(ready) == 1 else [f"I2 document {identity[1]} keeps {len(ready)} generations"]
    for table, what in (("chunks", "chunk_count"), ("chunk_vectors", "chunk_count"), ("pages", None)):
        rows = await connection.fetch(
            f"SELECT generation, count(*) AS rows FROM docray.{table} WHERE tenant_id = $1 AND document_id = $2 GROUP BY 1", *identity
        )
        if {row["generation"] for row in rows} != {row["generation"] for row in ready}:
            found.append(f"I2 document {identity[1]} has {table} of {[row['generation'] for row in rows]}")
        expected = {row["generation"]: row["chunk_count"] for row in ready}
        if what and any(row["rows"] < expected.get(row["generation"], 0) for row in rows):
            found.append(f"I2 document {identity[1]} lacks {table}")
    return found


async def _ready_problems(connection: asyncpg.Connection, document: asyncpg.Record, blobs: Path) -> list[str]:
    identity = (document["tenant_id"], document["id"], document["live_generation"])
    chunks = await connection.fetch(
        "SELECT n, chunk_id FROM docray.chunks WHERE tenant_id = $1 AND document_id = $2 AND generation = $3", *identity
    )
    of_it = "WHERE tenant_id = $1 AND document_id = $2 AND generation = $3"
    vectors = await connection.fetch(f"SELECT n, chunk_id FROM docray.chunk_vectors {of_it}", *identity)
    parts = await connection.fetch(f"SELECT first_n, last_n FROM docray.keyword_parts {of_it}", *identity)
    models = await connection.fetchval(f"SELECT cardinality(models) FROM docray.generations {of_it}", *identity)
    found = []
    if {row["chunk_id"] for row in chunks} != {row["chunk_id"] for row in vectors} or len(vectors) != models * len(chunks):
        found.append(f"I2 document {identity[1]} has {len(chunks)} chunks and {len(vectors)} vectors")
    if {row["chunk_id"] for row in chunks} != {chunk_id(*identity, row["n"]) for row in chunks} or len(chunks) != document["chunk_count"]:
        found.append(f"I2 document {identity[1]} has chunks that are not its own")
    if sorted(n for row in parts for n in range(row["first_n"], row["last_n"] + 1)) != list(range(len(chunks))):
        found.append(f"I2 document {identity[1]} has keywords for other chunks than its own")
    return found
