"""What must hold of a tenant when everything has come to rest, whatever was killed: invariants I1 to I8, for uploads and bulk runs alike.

Reads rows as the superuser and the blob store's folder; changes nothing. Each finding names its invariant and what kind of harm it is:
`lost`, `doubled`, `stuck`, `resurrected`, `leaked`, or `wrong` for a record that does not tell the truth.
"""

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from docray.domain.ids import blob_key, chunk_id

_TABLES = ("documents", "generations", "pages", "chunks", "chunk_vectors", "keyword_parts", "keyword_postings", "purges", "collection_documents",
           "bulk_runs", "bulk_files", "reindexes")  # fmt: skip


class Finding(NamedTuple):
    """An invariant that does not hold."""

    invariant: str
    harm: str
    what: str


async def problems(
    connection: asyncpg.Connection, tenant_id: UUID, blobs: Path, *, acknowledged: Collection[UUID] = (), deleted: Collection[UUID] = (),
    twins: bool = False,
) -> list[Finding]:  # fmt: skip
    """A finding for each invariant that does not hold.

    Args:
        connection: of the superuser.
        blobs: the blob store's folder.
        acknowledged: documents whose upload was answered with 2xx.
        deleted: documents whose delete was.
        twins: whether two documents may have the same bytes, as after replacements.
    """
    look = _Look(connection, tenant_id, blobs)
    await look.read()
    found = [*look.ends(acknowledged, deleted), *look.doubles(twins), *await look.index(), *look.stored(), *await look.remains()]
    return [*found, *await look.audit(), *look.work(), *await look.usage(), *await look.visible()]


class _Look:
    """One look at one tenant."""

    def __init__(self, connection: asyncpg.Connection, tenant_id: UUID, blobs: Path) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self._objects = blobs / "objects"

    async def read(self) -> None:
        """What every check needs."""
        self._documents = await self._rows("SELECT * FROM docray.documents WHERE tenant_id = $1")
        self._generations = await self._rows("SELECT * FROM docray.generations WHERE tenant_id = $1")
        self._purges = await self._rows("SELECT * FROM docray.purges WHERE tenant_id = $1")
        self._audit = await self._rows(
            "SELECT action, object_id, (details->>'generation')::integer AS generation FROM docray.audit_log"
            " WHERE tenant_id = $1 AND object_kind = 'document'"
        )
        self._live = {(row["id"], row["live_generation"]): row for row in self._documents if row["state"] == "ready"}
        reindexes = await self._rows("SELECT state FROM docray.reindexes WHERE tenant_id = $1")
        self._ever_reindexed = bool(reindexes)
        self._reindexing = any(row["state"] in ("building", "switched") for row in reindexes)
        ready = {(row["document_id"], row["generation"]): row for row in self._generations if row["state"] == "ready"}
        self._complete = ready if self._reindexing else {key: ready[key] for key in self._live if key in ready}

    async def _rows(self, query: str, *more: Any) -> list[asyncpg.Record]:
        return list(await self._connection.fetch(query, self._tenant_id, *more))

    def ends(self, acknowledged: Collection[UUID], deleted: Collection[UUID]) -> list[Finding]:
        """I1: what was accepted is ready, failed with a reason, or deleted; what was deleted stays so."""
        there = {row["id"] for row in self._documents}
        found = [Finding("I1", "lost", f"document {each} was acknowledged and is gone") for each in set(acknowledged) - there - set(deleted)]
        found += [Finding("I1", "resurrected", f"document {each} was deleted and is there") for each in set(deleted) & there]
        for row in self._documents:
            if row["state"] not in ("ready", "failed"):
                found.append(Finding("I1", "stuck", f"document {row['id']} is {row['state']}"))
        return found

    def doubles(self, twins: bool) -> list[Finding]:
        """No bytes are two documents, unless that was asked for."""
        seen: dict[str, int] = {}
        for row in self._documents:
            seen[row["sha256"]] = seen.get(row["sha256"], 0) + 1
        return [Finding("I1", "doubled", f"the same bytes are {count} documents") for count in seen.values() if count > 1 and not twins]

    async def index(self) -> list[Finding]:
        """I2: vectors (by each of its models), keywords and chunks of each live generation are the same set, and the ids its own. While a
        reindex is open so are those of generations that wait for the switch, or are kept after it."""
        found = [Finding("I2", "lost", f"document {key[0]} answers by no generation") for key in self._live.keys() - self._complete.keys()]
        for (document_id, generation), row in self._complete.items():
            identity = (self._tenant_id, document_id, generation)
            where = "WHERE tenant_id = $1 AND document_id = $2 AND generation = $3"
            chunks = await self._rows(f"SELECT n, chunk_id FROM docray.chunks {where}", *identity[1:])
            vectors = await self._rows(f"SELECT chunk_id FROM docray.chunk_vectors {where}", *identity[1:])
            parts = await self._rows(f"SELECT first_n, last_n FROM docray.keyword_parts {where}", *identity[1:])
            ids = {each["chunk_id"] for each in chunks}
            vector_ids = {each["chunk_id"] for each in vectors}
            if ids - vector_ids or len(chunks) != row["chunk_count"] or len(vectors) < len(row["models"]) * len(chunks):
                found.append(Finding("I2", "lost", f"document {document_id} has {len(vectors)} vectors and {row['chunk_count']} chunks"))
            if vector_ids - ids or len(vectors) > len(row["models"]) * len(chunks):
                found.append(Finding("I2", "doubled", f"document {document_id} has vectors beside those of its chunks"))
            if ids != {chunk_id(*identity, each["n"]) for each in chunks}:
                found.append(Finding("I2", "wrong", f"document {document_id} has chunks that are not its own"))
            if sorted(n for part in parts for n in range(part["first_n"], part["last_n"] + 1)) != list(range(len(chunks))):
                found.append(Finding("I2", "wrong", f"document {document_id} has keywords for other chunks than its own"))
        return found

    def stored(self) -> list[Finding]:
        """I3: each generation's blob is there with its bytes, and no other blob is."""
        owned = {row["blob_key"]: row["sha256"] for row in self._generations}
        paths = {path.relative_to(self._objects).as_posix(): path for path in (self._objects / str(self._tenant_id)).rglob("*.pdf")}
        found = [
            Finding("I3", "wrong", f"generation {row['generation']} of document {row['document_id']} has another's blob")
            for row in self._generations
            if row["blob_key"] != blob_key(self._tenant_id, row["document_id"], row["content_generation"] or row["generation"])
        ]
        found += [Finding("I3", "lost", f"blob {key} is missing") for key in owned.keys() - paths.keys()]
        found += [Finding("I3", "leaked", f"blob {key} has no owner") for key in paths.keys() - owned.keys()]
        for key in owned.keys() & paths.keys():
            if hashlib.sha256(paths[key].read_bytes()).hexdigest() != owned[key]:
                found.append(Finding("I3", "wrong", f"blob {key} has other bytes than were uploaded"))
        return found

    async def remains(self) -> list[Finding]:
        """I4: only live generations have pages, chunks, vectors and keywords; only documents that are there have anything."""
        found = []
        for table in ("pages", "chunks", "chunk_vectors", "keyword_parts"):
            for row in await self._rows(f"SELECT DISTINCT document_id, generation FROM docray.{table} WHERE tenant_id = $1"):
                if tuple(row) not in self._live | self._complete and not self._in_work(*row):
                    found.append(Finding("I4", "leaked", f"{table} of document {row[0]}, generation {row[1]}, which does not answer"))
        loose = await self._rows(
            "SELECT count(*) FROM docray.keyword_postings p WHERE p.tenant_id = $1"
            " AND NOT EXISTS (SELECT FROM docray.keyword_parts k WHERE k.tenant_id = $1 AND k.part = p.part)"
        )
        found += [Finding("I4", "leaked", f"{loose[0][0]} postings of no document")] if loose[0][0] else []
        for row in self._generations:
            key = (row["document_id"], row["generation"])
            if row["state"] == "deleting" or (row["state"] == "ready" and key not in self._live | self._complete):
                found.append(Finding("I4", "leaked", f"generation {row['generation']} of document {row['document_id']} was superseded and is there"))
        return found

    def _in_work(self, document_id: UUID, generation: int) -> bool:
        return any(
            (row["document_id"], row["generation"]) == (document_id, generation) and row["state"] in ("parsed", "embedded", "indexed")
            for row in self._generations
        )

    async def audit(self) -> list[Finding]:
        """I5: exactly one audit row tells of each change."""
        told: dict[tuple[str, UUID, int | None], int] = {}
        for row in self._audit:
            key = (row["action"], row["object_id"], row["generation"])
            told[key] = told.get(key, 0) + 1
        expected: dict[tuple[str, UUID, int | None], int] = {}
        for row in self._documents:
            expected[("document.create", row["id"], None)] = 1
            for generation in range(2, 2 if self._ever_reindexed else row["next_generation"]):  # a reindex takes numbers, too
                expected[("document.replace", row["id"], generation)] = 1
            made = self._complete.get((row["id"], row["live_generation"]))
            if row["live_generation"] is not None and not (made and made["reindex_id"]):  # those of a reindex are told of by its switch
                expected[("document.published", row["id"], row["live_generation"])] = 1
        there = {row["id"] for row in self._documents}
        for document_id in {object_id for _, object_id, _ in told} - there:
            expected[("document.create", document_id, None)] = expected[("document.delete", document_id, None)] = 1
        found = [
            Finding("I5", "wrong", f"{told.get(key, 0)} audit rows of {key[0]} of document {key[1]}, {count} expected")
            for key, count in expected.items()
            if told.get(key, 0) != count
        ]
        once = ("document.create", "document.published", "document.replace", "document.delete")
        for key, count in told.items():
            if key[0] in once and count > 1:
                found.append(Finding("I5", "doubled", f"{count} audit rows of {key[0]} of {key[1]}"))
            if key[0] == "document.delete" and key[1] in there:
                found.append(Finding("I5", "wrong", f"a delete of {key[1]} was recorded, and it is there"))
        return found + self._failures_audited(told)

    def _failures_audited(self, told: dict[tuple[str, UUID, int | None], int]) -> list[Finding]:
        """As many failures are recorded as there were: each of a document's retries explains one more of them."""
        found = []
        for row in self._generations:
            if row["state"] == "failed":
                again = sum(told.get((action, row["document_id"], None), 0) for action in ("document.retry", "document.requeue"))
                failures = told.get(("document.failed", row["document_id"], row["generation"]), 0)
                if not 1 <= failures <= 1 + again:
                    found.append(Finding("I5", "wrong", f"{failures} audit rows of failures of document {row['document_id']}, {again} of retries"))
        return found

    def work(self) -> list[Finding]:
        """I6: nothing is in work, no order waits, and what failed says why."""
        found = [
            Finding("I6", "stuck", f"generation {row['generation']} of {row['document_id']} is {row['state']}, leased until {row['lease_until']}")
            for row in self._generations
            if row["state"] not in ("ready", "failed", "deleting")
        ]
        found += [Finding("I6", "stuck", f"the purge of {row['document_id']} waits after {row['attempts']} tries") for row in self._purges]
        reasons = [row for row in self._generations if row["state"] == "failed" and not (row["failure_code"] and row["failure_message"])]
        return found + [Finding("I6", "lost", f"document {row['document_id']} failed without a reason") for row in reasons]

    async def usage(self) -> list[Finding]:
        """I7: usage is what was published, once each."""
        rows = await self._rows(
            "SELECT document_id, generation, pages, chunks, size_bytes FROM docray.usage WHERE tenant_id = $1 AND kind = 'ingest'"
        )
        used: dict[tuple[UUID, int], list[tuple[int, ...]]] = {}
        for row in rows:
            used.setdefault((row["document_id"], row["generation"]), []).append((row["pages"], row["chunks"], row["size_bytes"]))
        published = {(row["object_id"], row["generation"]) for row in self._audit if row["action"] == "document.published"}
        found = [Finding("I7", "doubled", f"{len(each)} usage rows of {key}") for key, each in used.items() if len(each) > 1]
        found += [Finding("I7", "wrong", f"usage and publishes differ in {key}") for key in used.keys() ^ published]
        for key, row in self._live.items():
            if key in used and used[key][0] != (row["page_count"], row["chunk_count"], row["size_bytes"]):
                found.append(Finding("I7", "wrong", f"usage of {key} is {used[key][0]}, the document has {row['page_count']} pages"))
        return found

    async def visible(self) -> list[Finding]:
        """I8: what the tenant sees under row-level security is what the superuser's filter finds."""
        found = []
        for table in _TABLES:
            [[filtered]] = await self._rows(f"SELECT count(*) FROM docray.{table} WHERE tenant_id = $1")
            async with self._connection.transaction(readonly=True):
                await self._connection.execute("SELECT set_config('app.tenant_id', $1, true)", str(self._tenant_id))
                await self._connection.execute("SET LOCAL ROLE docray_worker")
                seen = await self._connection.fetchval(f"SELECT count(*) FROM docray.{table}")
            if seen != filtered:
                found.append(Finding("I8", "wrong", f"the tenant sees {seen} rows of {table}, {filtered} are its"))
        return found
