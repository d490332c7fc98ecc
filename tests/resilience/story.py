"""What a client does in the drills without Ray: sends each request until it is answered, always under the same idempotency key.

Owns the client's patience and the site's upkeep: when the process that serves it dies or stands still, another one is started, as a supervisor
would. Time is not waited for where a test can pass it: the minute after which a dead request's key may be taken over is set back by hand.
"""

import asyncio
import itertools
import signal
import time
import uuid
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any
from uuid import UUID

import asyncpg
import httpx

from tests.pdf_factory import lines, pdf, scan
from tests.resilience.site import Place, Process, Tell, Trap

PATIENCE_S = 120.0  # T_conv of the test catalogue
_REPLY_S = 1.5  # a process that stands still does not answer; the client asks another one


@dataclass
class Site:
    """A place, the processes that have served it, and a client of the tenant whose key it has."""

    place: Place
    secret: str
    superuser: asyncpg.Connection
    processes: list[Process] = field(default_factory=list)
    woken: list[Process] = field(default_factory=list)
    _names: Any = field(default_factory=itertools.count)
    _clients: dict[int, httpx.AsyncClient] = field(default_factory=dict)

    def start(self, armed: Trap | Tell | None = None, clock_off_s: float = 0.0, **place: float) -> Process:
        """Another process, with some of the place's times changed."""
        process = Process(replace(self.place, **place), f"p{next(self._names)}", armed, clock_off_s)  # type: ignore[arg-type]
        self.processes.append(process)
        return process

    async def call(self, method: str, path: str, *, key: str | None = None, **options: Any) -> httpx.Response:
        """Sends a request until somebody answers it with what is not a temporary refusal."""
        key = key or str(uuid.uuid4())
        stop = time.monotonic() + PATIENCE_S
        while time.monotonic() < stop:
            if not self.processes[-1].works:
                self.start()
                await self.superuser.execute("UPDATE docray.idempotency_keys SET claimed_until = now() WHERE status IS NULL")
            try:
                response = await self.once(self.processes[-1], method, path, key=key, **options)
            except httpx.TransportError:
                await asyncio.sleep(0.03)
                continue
            if response.status_code not in (409, 429, 503):
                return response
            await asyncio.sleep(0.1)
        raise TimeoutError(f"{method} {path} was not answered within {PATIENCE_S:.0f} s")

    async def once(self, process: Process, method: str, path: str, *, key: str, **options: Any) -> httpx.Response:
        """Sends a request once, to one process."""
        client = self._clients.get(process.pid)
        if client is None:  # kept: making one takes longer than most requests
            transport = httpx.AsyncHTTPTransport(uds=str(process.socket), verify=False)
            client = httpx.AsyncClient(transport=transport, base_url="http://docray", timeout=_REPLY_S)
            self._clients[process.pid] = client
        headers = {"Authorization": f"Bearer {self.secret}", "Idempotency-Key": key} | options.pop("headers", {})
        return await client.request(method, path, headers=headers, **options)

    async def close(self) -> None:
        """Ends every process."""
        for client in self._clients.values():
            await client.aclose()
        for process in self.processes:
            await process.end()

    async def upload(self, data: bytes) -> UUID:
        """A document."""
        response = await self.call("POST", "/v1/documents", content=data, headers={"Content-Type": "application/pdf"})
        assert response.status_code in (200, 202), response.text
        return UUID(response.json()["id"])

    async def replace(self, document_id: UUID, data: bytes) -> None:
        """Other bytes."""
        response = await self.call("PUT", f"/v1/documents/{document_id}/content", content=data, headers={"Content-Type": "application/pdf"})
        assert response.status_code in (200, 202), response.text

    async def delete(self, document_id: UUID) -> None:
        """Gone. A retry whose first try had its effect gets the first answer."""
        response = await self.call("DELETE", f"/v1/documents/{document_id}")
        assert response.status_code == 202, response.text

    async def until(self, document_id: UUID, *states: str, sha256: str | None = None) -> dict[str, Any]:
        """Waits until a document is in one of the states, with those bytes."""
        stop = time.monotonic() + PATIENCE_S
        while time.monotonic() < stop:
            document = (await self.call("GET", f"/v1/documents/{document_id}")).json()
            if document["state"] in states and sha256 in (None, document["sha256"]):
                return dict(document)
            await asyncio.sleep(0.03)
        raise TimeoutError(f"document {document_id} is still {document['state']}")

    async def wake(self) -> None:
        """Lets processes that stand still go on with what they were about to do, and gives them a moment for it."""
        for process in self.processes:
            if process.stopped:
                self.woken.append(process)
                process.send(signal.SIGCONT)
                await asyncio.sleep(0.5)

    async def purged(self) -> None:
        """Waits until no purge is ordered."""
        stop = time.monotonic() + PATIENCE_S
        while await self.superuser.fetchval("SELECT count(*) FROM docray.purges"):
            if time.monotonic() > stop:
                return  # the oracle tells
            if not self.processes[-1].works:
                self.start()
            await asyncio.sleep(0.05)


@dataclass(frozen=True)
class Told:
    """What the client was told."""

    acknowledged: list[UUID]
    deleted: list[UUID]


def a_pdf(word: str, pages: int = 1) -> bytes:
    """A PDF of its own."""
    return pdf([lines(f"Report {word}, page {page}, tells of the harbour.", "It is a quiet place.") for page in range(pages)])


async def whole_life(site: Site) -> Told:
    """Every step of a document's life: it is uploaded, answers, is replaced; another fails; a third is deleted."""
    second = a_pdf("second")
    kept = await site.upload(a_pdf("first"))
    await site.until(kept, "ready")
    await site.wake()  # while what it had in hand is live by another's doing
    await site.replace(kept, second)
    await site.until(kept, "ready", sha256=sha256(second).hexdigest())
    await site.wake()
    await site.purged()
    failing = await site.upload(scan())
    await site.until(failing, "failed")
    gone = await site.upload(a_pdf("third"))
    await site.until(gone, "ready")
    await site.delete(gone)
    await site.purged()
    await site.wake()
    return Told([kept, failing, gone], [gone])
