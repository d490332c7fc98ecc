"""F1, F3, K3: thousands of the same upload at once; deletes and replacements at random points of an ingest."""

import asyncio
import contextlib
import functools
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

import httpx
import orjson
import psutil

from docray import wiring
from docray.ingestion.worker import IngestWorker
from docray.resilience import failpoints
from docray.resilience.failpoints import POINTS
from models.fakes import FakeEmbedder
from tests import oracle
from tests.resilience.conftest import NewSite
from tests.resilience.site import opened_app
from tests.resilience.sizes import FIGURES, SEED, SIZES, dice
from tests.resilience.story import Site, a_pdf

MEGABYTE = 1 << 20
GROWTH_BYTES = 160 * MEGABYTE
"""What the server may grow by under a hundred bodies of 4 MB at once: what a connection holds back, 256 kB, and no more than that."""
WORKER_POINTS = [point for point in POINTS if point.startswith(("lease.after", "extract.", "parsed.", "embed.", "index.", "publish."))]


async def posted(socket: str, secret: str, body: bytes, key: str | None, roll: random.Random) -> tuple[int, dict[str, str]]:
    """One upload over a connection of its own, sent again while it is refused for the moment → (status, the document)."""
    head = f"POST /v1/documents HTTP/1.1\r\nHost: docray\r\nAuthorization: Bearer {secret}\r\nContent-Type: application/pdf\r\nConnection: close\r\n"
    head += f"Content-Length: {len(body)}\r\n" + (f"Idempotency-Key: {key}\r\n" if key else "") + "\r\n"
    pause_s = 0.5
    for _ in range(1000):
        pause_s = min(10.0, pause_s * 1.5)  # two thousand who knock twice a second would only keep the server from its work
        try:
            reader, writer = await asyncio.open_unix_connection(socket)
            try:
                writer.write(head.encode() + body)
                with contextlib.suppress(ConnectionError):  # refused before it was read whole; the answer tells why
                    await writer.drain()
                answer = await reader.read()
            finally:
                writer.close()
        except OSError:
            await asyncio.sleep(roll.uniform(0.1, pause_s))
            continue
        status = int(answer.split(b" ", 2)[1]) if answer else 0
        if status in (0, 409, 429, 503):
            await asyncio.sleep(roll.uniform(0.1, pause_s))
            continue
        return status, orjson.loads(answer.partition(b"\r\n\r\n")[2])
    raise TimeoutError("refused a thousand times")


async def storm(site: Site, uploads: int, key: str | None, size_bytes: int = 0) -> tuple[set[str], int, int]:
    """Sends the same bytes so many times at once → (ids, how often 202, by how many bytes the server grew)."""
    process = site.start()
    site_answers = await site.call("GET", "/v1/me")
    assert site_answers.status_code == 200
    body = a_pdf("storm") + b"\n%" + b"x" * size_bytes
    server = psutil.Process(process.pid)
    before = peak = server.memory_info().rss
    roll = dice("storm")
    sent = asyncio.gather(*(posted(str(process.socket), site.secret, body, key, roll) for _ in range(uploads)))
    while not sent.done():
        peak = max(peak, server.memory_info().rss)
        await asyncio.sleep(0.05)
    answers = sent.result()
    return {document["id"] for _, document in answers}, sum(status == 202 for status, _ in answers), peak - before


async def test_a_storm_of_the_same_upload_makes_one_document(new_site: NewSite) -> None:
    started = time.monotonic()
    async with new_site(lease_s=30.0, heartbeat_s=5.0) as site:
        ids, accepted, _ = await storm(site, SIZES.storm_uploads, None)
        assert (len(ids), accepted) == (1, 1)
        document_id = UUID(ids.pop())
        await site.until(document_id, "ready")
        assert await findings(site, [document_id], []) == []
        assert await site.superuser.fetchval("SELECT count(*) FROM docray.audit_log WHERE object_kind = 'document'") == 2  # create, published
    FIGURES.append(f"F3: {SIZES.storm_uploads} uploads of the same bytes at once in {time.monotonic() - started:.0f} s: 1 document, 1 blob")


async def test_large_bodies_at_once_do_not_lie_in_memory(new_site: NewSite) -> None:
    async with new_site(lease_s=30.0, heartbeat_s=5.0) as site:
        ids, accepted, grown = await storm(site, 100, None, size_bytes=4 * MEGABYTE)
        assert (len(ids), accepted) == (1, 1)
        await site.until(UUID(ids.pop()), "ready")
        assert grown < GROWTH_BYTES
    FIGURES.append(f"100 uploads of 4 MB at once: the server grew by {grown / MEGABYTE:.0f} MB")


async def test_a_storm_under_one_key_has_one_effect(new_site: NewSite) -> None:
    async with new_site(lease_s=30.0, heartbeat_s=5.0) as site:
        ids, accepted, _ = await storm(site, 200, "the-key")
        assert (len(ids), accepted) == (1, 200)  # the first answer, 200 times
        document_id = UUID(ids.pop())
        await site.until(document_id, "ready")
        assert await findings(site, [document_id], []) == []
        assert await site.superuser.fetchval("SELECT count(*) FROM docray.audit_log WHERE object_kind = 'document'") == 2


async def findings(site: Site, acknowledged: list[UUID], deleted: list[UUID], **more: bool) -> list[oracle.Finding]:
    tenant_id = await site.superuser.fetchval("SELECT tenant_id FROM docray.tenants")
    return await oracle.problems(site.superuser, tenant_id, site.place.settings().blobs, acknowledged=acknowledged, deleted=deleted, **more)


@dataclass
class Together:
    """App and worker in this process, so that a test can act between two of their steps."""

    site: Site
    client: httpx.AsyncClient
    worker: IngestWorker

    async def send(self, method: str, path: str, body: bytes = b"", *, expect: tuple[int, ...] = (200, 202)) -> httpx.Response:
        """A request, sent again while a lock is in its way."""
        for _ in range(200):
            response = await self.client.request(method, path, content=body, headers={"Content-Type": "application/pdf"} if body else {})
            if response.status_code != 503:
                assert response.status_code in expect, response.text
                return response
            await asyncio.sleep(0.05)
        raise TimeoutError(path)

    async def upload(self, word: str) -> UUID:
        """A document."""
        return UUID((await self.send("POST", "/v1/documents", a_pdf(word))).json()["id"])

    async def rest(self) -> None:
        """Does what is there to do, until nothing is."""
        async with asyncio.timeout(120):
            while await self.worker.work_once() or await self.worker.purge_once() or await self._waiting():
                await asyncio.sleep(0)

    async def _waiting(self) -> bool:
        left = await self.site.superuser.fetchval(
            "SELECT (SELECT count(*) FROM docray.purges)"
            " + (SELECT count(*) FROM docray.generations WHERE state IN ('queued', 'parsed', 'embedded', 'indexed'))"
        )
        await asyncio.sleep(0.02 if left else 0)
        return bool(left)


@contextlib.asynccontextmanager
async def together(new_site: NewSite) -> AsyncIterator[Together]:
    async with new_site() as site, opened_app(site.place) as app:
        async with wiring.opened_worker(site.place.settings(), embedder=FakeEmbedder(model_id="fake@1"), name="together") as worker:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://docray", headers={"Authorization": f"Bearer {site.secret}"}) as client:
                yield Together(site, client, worker)
        failpoints.arm(None)


class At:
    """At a point, once: begins something, and gives it a moment's head start. It is not waited for: the point may hold a lock that it needs."""

    def __init__(self, point: str, act, pause_s: float) -> None:  # type: ignore[no-untyped-def]
        self._point, self._act, self._pause_s = point, act, pause_s
        self.task: asyncio.Task[None] | None = None

    async def __call__(self, point: str) -> None:
        if point == self._point and self.task is None:
            self.task = asyncio.create_task(self._act())
            await asyncio.sleep(self._pause_s)


async def test_a_delete_at_a_random_point_of_the_ingest_wins(new_site: NewSite) -> None:
    roll, started, gone = dice("delete races"), time.monotonic(), []
    async with together(new_site) as bench:
        for number in range(SIZES.delete_races):
            document_id = await bench.upload(f"race {number}")
            delete = functools.partial(bench.send, "DELETE", f"/v1/documents/{document_id}")
            act = At(roll.choice(WORKER_POINTS), delete, roll.choice((0, 0.001, 0.004)))
            failpoints.arm(act)
            await bench.worker.work_once()
            failpoints.arm(None)
            assert act.task is not None, "the point was not reached"
            await act.task
            gone.append(document_id)
            await bench.send("GET", f"/v1/documents/{document_id}", expect=(404,))
        await bench.rest()
        assert await findings(bench.site, gone, gone) == [], f"seed {SEED}"
        assert await bench.site.superuser.fetchval("SELECT count(*) FROM docray.chunk_vectors") == 0
    FIGURES.append(f"K3: {SIZES.delete_races} deletes at random points of an ingest in {time.monotonic() - started:.0f} s, 0 resurrected")


async def test_replacements_race_deletes_and_publishes_and_the_last_word_holds(new_site: NewSite) -> None:
    roll, kept, gone = dice("replace races"), {}, []
    async with together(new_site) as bench:
        for number in range(SIZES.replace_races):
            document_id = await bench.upload(f"first {number}")
            if roll.random() < 0.5:
                await bench.worker.work_once()  # it answers already
                await bench.upload(f"other {number}")
            deletes = roll.random() < 0.5
            second = a_pdf(f"second {number}")

            async def act(at: UUID = document_id, data: bytes = second, also: bool = deletes) -> None:
                calls = [bench.send("PUT", f"/v1/documents/{at}/content", data, expect=(200, 202, 404))]
                if also:
                    calls.append(bench.send("DELETE", f"/v1/documents/{at}"))
                roll.shuffle(calls)
                await asyncio.gather(*calls)

            at = At(roll.choice(WORKER_POINTS), act, roll.choice((0, 0.001, 0.004)))
            failpoints.arm(at)
            await bench.worker.work_once()
            failpoints.arm(None)
            assert at.task is not None, "the point was not reached"
            await at.task
            if deletes:
                gone.append(document_id)
            else:
                kept[document_id] = sha256(second).hexdigest()
        await bench.rest()
        assert await findings(bench.site, [*kept, *gone], gone) == [], f"seed {SEED}"
        rows = await bench.site.superuser.fetch("SELECT id, state, sha256 FROM docray.documents WHERE id = ANY ($1)", list(kept))
        assert {row["id"]: (row["state"], row["sha256"]) for row in rows} == {each: ("ready", digest) for each, digest in kept.items()}


async def test_an_upload_that_got_no_lock_leaves_no_blob_behind(new_site: NewSite) -> None:
    async with together(new_site) as bench:
        body = a_pdf("no lock")
        tenant_id = await bench.site.superuser.fetchval("SELECT tenant_id FROM docray.tenants")
        key = f"{tenant_id}{sha256(body).hexdigest()}"
        await bench.site.superuser.execute("SELECT pg_advisory_lock(hashtextextended($1, 1))", key)  # somebody decides about these bytes, for long
        response = await bench.client.post("/v1/documents", content=body, headers={"Content-Type": "application/pdf"})
        assert response.status_code == 503
        assert list((bench.site.place.settings().blobs / "objects").rglob("*.pdf")) == []
        await bench.site.superuser.execute("SELECT pg_advisory_unlock_all()")
        document_id = UUID((await bench.send("POST", "/v1/documents", body)).json()["id"])
        await bench.rest()
        assert await findings(bench.site, [document_id], []) == []
