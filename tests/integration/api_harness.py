"""The API over the real stores, in this process: PostgreSQL from the wheel, blobs in a folder. Only what answers questions is scripted."""

import asyncio
import hashlib
import struct
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from catalog_factories import chunks_of, some_pages, take_to
from fastapi import FastAPI

from docray.api.app import create_app
from docray.api.services import Services
from docray.domain.documents import Box, Failure, FailureCode, State
from docray.domain.ids import new_id
from docray.domain.principals import Principal, Scope, Tenant
from docray.domain.questions import (
    Answer,
    AnswerEvent,
    Citation,
    Cited,
    Delta,
    DocumentCard,
    Finished,
    Found,
    Hit,
    Question,
    SearchRequest,
    SearchResults,
    Usage,
)
from docray.domain.reindexes import IndexForm
from docray.security.api_keys import make_key
from docray.settings import Settings
from docray.stores.filesystem_blobs import FilesystemBlobs
from docray.stores.health_checks import BlobHealth, DatabaseHealth
from docray.stores.postgres import Database
from docray.stores.postgres_catalog import PostgresCatalog
from docray.stores.postgres_idempotency import PostgresIdempotency
from docray.stores.postgres_jobs import PostgresJobQueue
from docray.stores.postgres_keys import PostgresCredentials, PostgresTenants

PDF = b"%PDF-1.7\n%"


def a_pdf(text: str = "", size: int = 0) -> bytes:
    """Bytes with a PDF's header, other ones each time; nobody reads them here."""
    return PDF + (text or str(new_id())).encode() + b"\n" + b"x" * size


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def a_hit(text: str = "The committee met.") -> Hit:
    """A search result with every field."""
    chunk = chunks_of(some_pages(1))[0]
    card = DocumentCard(
        id=new_id(), filename="report.pdf", title=None, collection_ids=(new_id(),), metadata={"year": 2021}, created_at=datetime.now(UTC)
    )
    return Hit(
        rank=1, score=0.03, dense=0.6, keyword=None, rerank=None, chunk_id=new_id(), document=card, generation=1, text=text, snippet=text,
        heading_path=chunk.heading_path, pages=chunk.pages, spans=chunk.spans,
    )  # fmt: skip


@dataclass
class ScriptedSearch:
    """Finds what a test puts in `hits`; keeps the requests. Waits while `gate` is closed."""

    hits: tuple[Hit, ...] = ()
    requests: list[SearchRequest] = field(default_factory=list)
    arrived: asyncio.Queue[SearchRequest] = field(default_factory=asyncio.Queue)
    error: Exception | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    async def search(self, _: Principal, request: SearchRequest) -> SearchResults:
        self.requests.append(request)
        self.arrived.put_nowait(request)
        await self.gate.wait()
        if self.error:
            raise self.error
        timings = {"embed": 1.0, "retrieve": 1.0, "authority": 1.0, "total": 3.0}
        return SearchResults(query=request.query, hits=self.hits[: request.limit], timings_ms=timings)


@dataclass
class ScriptedAnswers:
    """Answers with a hit's text in two pieces. `error_before` and `error_after` break it; `gate` holds it up after the first piece."""

    models: Sequence[str] = ("extractive",)
    error_before: Exception | None = None
    error_after: Exception | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    questions: list[Question] = field(default_factory=list)
    closed: int = 0

    def __post_init__(self) -> None:
        self.gate.set()

    async def answer(self, _: Principal, question: Question) -> AsyncGenerator[AnswerEvent, None]:
        self.questions.append(question)
        try:
            if self.error_before:
                raise self.error_before
            answer = an_answer()
            yield Found(answer.search_results)
            yield Delta("The committee met. ")
            await self.gate.wait()
            if self.error_after:
                raise self.error_after
            yield Delta("[1]")
            yield Cited(answer.citations[0])
            yield Finished(answer)
        finally:
            self.closed += 1


def an_answer() -> Answer:
    """A cited answer with every field."""
    hit = a_hit()
    place = hit.pages[0]
    cited = Citation(
        index=1, span=(0, 18), quote="The committee met.", chunk_id=hit.chunk_id, document=hit.document, page=place.page, width=place.width,
        height=place.height, boxes=place.boxes,
    )  # fmt: skip
    timings = {"embed": 1.0, "retrieve": 1.0, "authority": 1.0, "total": 3.0}
    return Answer(
        id=new_id(), answer="The committee met. [1]", refusal_reason=None, citations=(cited,),
        search_results=SearchResults(query="who met?", hits=(hit,), timings_ms=timings), model="extractive", usage=Usage(), degraded=(),
        timings_ms={"retrieve": 1.0, "first_token": None, "total": 2.0},
    )  # fmt: skip


@dataclass
class ScriptedPictures:
    """Draws a white point; keeps what it was asked for."""

    asked: list[tuple[int, float, tuple[Box, ...]]] = field(default_factory=list)
    error: Exception | None = None

    async def render(self, path: Path, page: int, *, scale: float, highlight: Sequence[Box]) -> bytes:
        assert path.read_bytes().startswith(PDF)
        self.asked.append((page, scale, tuple(highlight)))
        if self.error:
            raise self.error
        return white_point()


def white_point() -> bytes:
    """A PNG of one white point."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\x00\xff")) + chunk(b"IEND", b"")


@dataclass
class Api:
    """A client of the API as one principal, and what stands behind it."""

    app: FastAPI
    secret: str
    principal: Principal
    services: Services
    queue: PostgresJobQueue
    search: ScriptedSearch
    answers: ScriptedAnswers
    pictures: ScriptedPictures

    def client(self, secret: str | None = None) -> httpx.AsyncClient:
        """A client with a key; "" sends none."""
        key = self.secret if secret is None else secret
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://docray", headers=headers)

    async def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request."""
        async with self.client() as client:
            return await client.request(method, path, **options)

    async def upload(self, data: bytes | None = None, filename: str = "report.pdf", key: str | None = None, **form: Any) -> httpx.Response:
        """A multipart upload."""
        fields = {name: orjson.dumps(value).decode() if isinstance(value, dict) else value for name, value in form.items()}
        headers = {"Idempotency-Key": key} if key else {}
        files = {"file": (filename, a_pdf() if data is None else data, "application/pdf")}
        return await self.call("POST", "/v1/documents", files=files, data=fields, headers=headers)

    async def added(self, data: bytes | None = None, **form: Any) -> dict[str, Any]:
        """A document that is ready."""
        response = await self.upload(data, **form)
        assert response.status_code == 202, response.text
        await self.work()
        return (await self.call("GET", f"/v1/documents/{response.json()['id']}")).json()  # type: ignore[no-any-return]

    async def failed(self, data: bytes | None = None) -> dict[str, Any]:
        """A document that failed."""
        response = await self.upload(data)
        await self.work(fail=True)
        return (await self.call("GET", f"/v1/documents/{response.json()['id']}")).json()  # type: ignore[no-any-return]

    async def work(self, *, fail: bool = False) -> int:
        """Does what is queued, as the ingest worker would: publishes each generation, or fails it."""
        done = 0
        while lease := await self.queue.lease("harness", 60.0):
            done += 1
            if fail:
                await self.queue.fail(lease, Failure.of(FailureCode.DAMAGED))
            else:
                await take_to(self.queue, lease, State.READY)
        return done

    async def collection(self, name: str | None = None, **fields: Any) -> dict[str, Any]:
        """A new collection."""
        response = await self.call("POST", "/v1/collections", json={"name": name or f"collection {new_id()}", **fields})
        assert response.status_code == 201, response.text
        return response.json()  # type: ignore[no-any-return]

    async def key(self, *scopes: str) -> str:
        """The secret of a new key."""
        response = await self.call("POST", "/v1/api-keys", json={"name": "another", "scopes": list(scopes)})
        assert response.status_code == 201, response.text
        return str(response.json()["secret"])


async def an_admin(database: Database, name: str) -> tuple[str, Principal]:
    """The secret and principal of a new tenant's admin, who is also the operator."""
    made = make_key("admin", [Scope.ADMIN])
    tenant = Tenant(id=new_id(), name=name, created_at=datetime.now(UTC))
    await PostgresTenants(database).create(tenant, made.key, made.secret_hash, operator=True)
    principal = await PostgresCredentials(database).find(made.secret_hash)
    assert principal is not None
    return made.secret, principal


@pytest.fixture
def api_settings(tmp_path: Path) -> Settings:
    """Settings of the API under test; a module may override them."""
    return Settings(data_dir=tmp_path, max_document_bytes=200_000)


@pytest.fixture
async def api(database: Database, queue: PostgresJobQueue, api_settings: Settings, tmp_path: Path) -> AsyncIterator[Api]:
    """The API with an admin's key."""
    blobs = FilesystemBlobs(tmp_path / "blobs")
    blobs.prepare()
    search, answers, pictures = ScriptedSearch(), ScriptedAnswers(), ScriptedPictures()
    services = Services(
        settings=api_settings, catalog=PostgresCatalog(database), credentials=PostgresCredentials(database),
        tenants=PostgresTenants(database), idempotency=PostgresIdempotency(database), blobs=blobs, search=search, answers=answers,
        pages=pictures, health=(DatabaseHealth(database), BlobHealth(blobs)), index_form=IndexForm("m", "1"), present_model="m",
    )  # fmt: skip
    secret, principal = await an_admin(database, "default")
    yield Api(create_app(services), secret, principal, services, queue, search, answers, pictures)
    assert list(blobs.staging().iterdir()) == [], "an upload left a file behind"


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Waits until something holds."""
    async with asyncio.timeout(30):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.002)


def events_of(text: str) -> list[tuple[str, Any, str | None]]:
    """(event, data, id) of a stream."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append((fields["event"], orjson.loads(fields["data"]), fields.get("id")))
    return found


def assert_error(response: httpx.Response, status: int, code: str, param: str | None = None) -> None:
    """The one error shape, with these values."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"type", "code", "message", "param", "request_id", "retryable"}
    assert (error["code"], error["param"]) == (code, param), error
    assert error["request_id"] == response.headers["x-request-id"]
