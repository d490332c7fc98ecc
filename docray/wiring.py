"""Settings → stores, services, the app and the worker. The only importer of `docray.stores`; takes no decisions of its own.

Engines (embedder, language model) are given: `docray` does not know them.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pydantic import SecretStr

from docray.answering.measured import MeasuredSearch
from docray.answering.retrieval import SearchService
from docray.answering.service import AnswerService
from docray.api.services import Services
from docray.domain.errors import DocrayError, Unavailable
from docray.domain.ids import new_id
from docray.domain.latency import SearchLatency
from docray.domain.ports import Embedder, Generator
from docray.domain.principals import Scope, Tenant
from docray.domain.reindexes import IndexForm
from docray.ingestion.bulk import BulkReader, BulkWriter, Bytes
from docray.ingestion.chunking import Chunker, CountTokens, chunker_name
from docray.ingestion.extract.limits import ParserLimits
from docray.ingestion.generation import GenerationPublisher, GenerationReader
from docray.ingestion.intake import Intake
from docray.ingestion.sandbox.client import Parser
from docray.ingestion.service import DocumentService
from docray.ingestion.worker import IngestWorker, NextModel, WorkerTimes
from docray.observability import logs
from docray.observability.latency import LatencyWindow
from docray.security.api_keys import make_key
from docray.settings import Settings
from docray.stores.catalogue_lint import refuse
from docray.stores.filesystem_blobs import FilesystemBlobs
from docray.stores.health_checks import BlobHealth, DatabaseHealth
from docray.stores.pgvector_index import PgVectorIndex
from docray.stores.postgres import Database
from docray.stores.postgres_catalog import PostgresCatalog
from docray.stores.postgres_idempotency import PostgresIdempotency
from docray.stores.postgres_jobs import PostgresJobQueue
from docray.stores.postgres_keys import PostgresCredentials, PostgresTenants
from docray.stores.postgres_latency import announce, heard
from docray.stores.postgres_reindex_planner import PostgresReindexPlanner

if TYPE_CHECKING:
    from fastapi import FastAPI

DEFAULT_TENANT = "default"
_FIRST_KEY = "api_key"
_LATENCY_TOLD_EVERY_S = 2.0


class LostFirstKey(DocrayError):
    """The database has a default tenant, but this data folder does not hold its first key. Set DOCRAY_API_KEY to one of its admin keys."""


class SecretBox(Protocol):
    """Where the first key is kept: `docray.instance.files.InstanceFiles`."""

    @property
    def secrets(self) -> Path:
        """The folder of secrets."""
        ...

    def store_secret(self, name: str, value: str) -> None:
        """Keeps a secret, readable by its owner only."""
        ...


# --- the API process ----------------------------------------------------------------------------------------------------


def build_gateway(
    settings: Settings, *, embedder: Callable[[], Embedder], generator: Callable[[], Generator | None],
    next_embedder: Callable[[], Embedder | None] = lambda: None,
) -> "FastAPI":  # fmt: skip
    """The app of one API process. Engines and pools open when the app starts, on its event loop, and close with it."""
    from docray.api.app import create_app  # not by workers and bulk runs: with FastAPI it takes most of a second

    logs.configure(settings.log_level)
    stack = contextlib.AsyncExitStack()

    async def services() -> Services:
        engine = await asyncio.to_thread(embedder)
        await _opened_embedder(stack, engine)
        following = await asyncio.to_thread(next_embedder)
        await _opened_embedder(stack, following)
        database = await _opened_database(stack, settings.database_dsn, settings.database_pool_size)
        parser = await _opened_parser(stack, settings, wait=settings.require_sandbox)
        model = generator()
        closer = getattr(model, "close", None)
        if closer is not None:
            stack.push_async_callback(closer)
        latency = LatencyWindow(str(new_id()))
        stack.push_async_callback(_ended, asyncio.ensure_future(_telling(database, latency)))
        return _services(settings, database, (engine, following), model, parser, latency)

    return create_app(services, settings=settings, on_stop=[stack.aclose])


def _services(
    settings: Settings, database: Database, embedders: tuple[Embedder, Embedder | None], generator: Generator | None, parser: Parser,
    latency: LatencyWindow,
) -> Services:  # fmt: skip
    embedder, following = embedders
    catalog, blobs = PostgresCatalog(database), _prepared_blobs(settings)
    index = PgVectorIndex(database)
    search = MeasuredSearch(SearchService(catalog=catalog, index=index, embedder=embedder, next_embedder=following), latency.note)
    newest = following or embedder
    return Services(
        settings=settings,
        index_form=IndexForm(newest.model_id, chunker_name(_longest_passage(settings, embedder, following), newest.model_id)),
        present_model=embedder.model_id,
        catalog=catalog,
        credentials=PostgresCredentials(database),
        tenants=PostgresTenants(database),
        idempotency=PostgresIdempotency(database, keep_s=settings.idempotency_hours * 3600),
        blobs=blobs,
        search=search,
        answers=AnswerService(
            search=search,
            catalog=catalog,
            embedder=embedder,
            generator=generator,
            context_tokens=settings.llm_context_tokens,
            max_tokens=settings.llm_max_tokens,
            temperature=settings.llm_temperature,
        ),
        pages=parser,
        health=(DatabaseHealth(database), BlobHealth(blobs)),
    )


# --- the ingest worker --------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def opened_worker(
    settings: Settings, *, embedder: Embedder, name: str, next_embedder: Embedder | None = None
) -> AsyncIterator[IngestWorker]:
    """A worker with its own pool and parser server, closed with the block."""
    logs.configure(settings.log_level)
    async with contextlib.AsyncExitStack() as stack:
        await _opened_embedder(stack, embedder)
        await _opened_embedder(stack, next_embedder)
        database = await _opened_database(stack, settings.database_worker_dsn or settings.database_dsn, settings.worker_concurrency + 3)
        loop = asyncio.get_running_loop()

        longest = _longest_passage(settings, embedder, next_embedder)

        def chunker_of(counting: Embedder) -> Chunker:
            def count_tokens(texts: Sequence[str]) -> list[int]:
                return asyncio.run_coroutine_threadsafe(counting.count_tokens(texts), loop).result()

            return Chunker(max_tokens=longest, count_tokens=count_tokens)

        yield IngestWorker(
            name=name,
            queue=PostgresJobQueue(database, idempotency_keep_s=settings.idempotency_hours * 3600),
            blobs=_prepared_blobs(settings),
            parser=await _opened_parser(stack, settings),
            chunker=chunker_of(embedder),
            chunker_name=chunker_name(longest, embedder.model_id),
            embedder=embedder,
            next_model=None if next_embedder is None else NextModel(
                embedder=next_embedder, chunker=chunker_of(next_embedder), chunker_name=chunker_name(longest, next_embedder.model_id)
            ),
            planner=PostgresReindexPlanner(database),
            index=PgVectorIndex(database),
            times=WorkerTimes(lease_s=settings.lease_s, heartbeat_s=settings.heartbeat_s, poll_s=settings.poll_s),
            concurrency=settings.worker_concurrency,
        )  # fmt: skip


def _longest_passage(settings: Settings, *embedders: Embedder | None) -> int:
    """In tokens. While two models are loaded a passage may be embedded by both."""
    return min(settings.chunk_tokens, *(embedder.max_tokens for embedder in embedders if embedder is not None))


# --- bulk runs ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class BulkStores:
    """What a process of a bulk run works on: few connections, for a cluster has many such processes."""

    catalog: PostgresCatalog
    queue: PostgresJobQueue
    tenants: PostgresTenants
    index: PgVectorIndex
    blobs: FilesystemBlobs


@contextlib.asynccontextmanager
async def opened_bulk_stores(settings: Settings, *, connections: int = 2) -> AsyncIterator[BulkStores]:
    """The stores of a bulk run, with so many connections at most as either role."""
    logs.configure(settings.log_level)
    async with contextlib.AsyncExitStack() as stack:
        database = await _opened_database(stack, settings.database_dsn, connections)
        worker = await _opened_database(stack, settings.database_worker_dsn or settings.database_dsn, connections)
        yield BulkStores(
            catalog=PostgresCatalog(database), queue=PostgresJobQueue(worker, idempotency_keep_s=settings.idempotency_hours * 3600),
            tenants=PostgresTenants(database), index=PgVectorIndex(worker), blobs=_prepared_blobs(settings),
        )  # fmt: skip


def search_latencies(settings: Settings) -> AsyncIterator[SearchLatency]:
    """What gateways tell of their searches from now on. Unavailable when there is no connection, or it is lost."""
    if settings.database_dsn is None:
        raise Unavailable
    return heard(settings.database_dsn.get_secret_value())


@contextlib.asynccontextmanager
async def opened_bulk_reader(
    settings: Settings, *, count_tokens: CountTokens, max_tokens: int, fetch: Bytes, model_id: str | None = None
) -> AsyncIterator[BulkReader]:
    """The first step of a bulk run, with a parser server of its own. `model_id` names whose tokens count."""
    async with opened_bulk_stores(settings) as stores, contextlib.AsyncExitStack() as stack:
        parser = await _opened_parser(stack, settings)
        longest = min(settings.chunk_tokens, max_tokens)
        chunker, name = Chunker(max_tokens=longest, count_tokens=count_tokens), chunker_name(longest, model_id) if model_id else None
        yield BulkReader(
            catalog=stores.catalog, queue=stores.queue, documents=DocumentService(stores.catalog, stores.blobs),
            intake=Intake(stores.blobs, settings.max_document_bytes), fetch=fetch,
            reader=GenerationReader(queue=stores.queue, blobs=stores.blobs, parser=parser, chunker=chunker, chunker_name=name),
        )  # fmt: skip


@contextlib.asynccontextmanager
async def opened_bulk_writer(settings: Settings) -> AsyncIterator[BulkWriter]:
    """The second step of a bulk run."""
    async with opened_bulk_stores(settings) as stores:
        yield BulkWriter(
            catalog=stores.catalog, queue=stores.queue, publisher=GenerationPublisher(queue=stores.queue, index=stores.index)
        )


# --- the database at start ------------------------------------------------------------------------------------------------


def prepare_database(settings: Settings, *, admin_dsn: str, app_dsn: str, secrets: SecretBox) -> str:
    """Schema current, catalogue clean, and the default tenant's first key, which is the operator's too; returns that key."""
    return asyncio.run(_prepared_database(settings, admin_dsn, app_dsn, secrets))


async def _prepared_database(settings: Settings, admin_dsn: str, app_dsn: str, secrets: SecretBox) -> str:
    from docray.stores.migrate import migrate  # alembic takes a second to import; only the supervisor needs it

    await migrate(admin_dsn)
    async with contextlib.AsyncExitStack() as stack:
        database = await _opened_database(stack, SecretStr(app_dsn), 1)
        await refuse(database)
        return await _first_key(PostgresTenants(database), settings, secrets)


async def _first_key(tenants: PostgresTenants, settings: Settings, secrets: SecretBox) -> str:
    """The key made at the first start. The secret is kept before the tenant is made: a crash in between makes another one next time."""
    if await tenants.find_by_name(DEFAULT_TENANT) is None:
        made = make_key("first key", [Scope.ADMIN])
        secrets.store_secret(_FIRST_KEY, made.secret)
        await tenants.create(Tenant(id=new_id(), name=DEFAULT_TENANT, created_at=made.key.created_at), made.key, made.secret_hash, operator=True)
        return made.secret
    if settings.api_key is not None:
        return settings.api_key.get_secret_value()
    kept = secrets.secrets / _FIRST_KEY
    if not kept.is_file():
        raise LostFirstKey
    return kept.read_text(encoding="utf-8").strip()


def _prepared_blobs(settings: Settings) -> FilesystemBlobs:
    blobs = FilesystemBlobs(settings.blobs)
    blobs.prepare()
    return blobs


async def _opened_database(stack: contextlib.AsyncExitStack, dsn: SecretStr | None, pool_size: int) -> Database:
    if dsn is None:
        raise Unavailable("No database is configured. Set DOCRAY_DATABASE_DSN, or start docray with `docray up`.")
    database = Database(dsn.get_secret_value(), pool_size=pool_size)
    await database.open()
    stack.push_async_callback(database.close)
    return database


async def _opened_embedder(stack: contextlib.AsyncExitStack, embedder: Embedder | None) -> None:
    """A remote embedder learns what it talks to; a local one is closed at the end."""
    opener, closer = getattr(embedder, "open", None), getattr(embedder, "close", None)
    if opener is not None:
        await opener()
    if closer is not None:
        stack.callback(closer)


async def _opened_parser(stack: contextlib.AsyncExitStack, settings: Settings, *, wait: bool = True) -> Parser:
    """A parser whose server runs, or is on its way: loading the engines takes two seconds, and only pictures of pages wait for them there."""
    limits = ParserLimits(
        max_pages=settings.max_pages,
        time_s=settings.extract_time_s,
        memory_bytes=settings.extract_memory_bytes,
        max_text_bytes=settings.max_text_bytes,
    )
    parser = Parser(engine=settings.pdf_engine, limits=limits, require_confinement=settings.require_sandbox)
    starting = asyncio.ensure_future(parser.start())
    stack.push_async_callback(parser.close)
    stack.push_async_callback(_ended, starting)
    if wait:
        await starting
    return parser


async def _telling(database: Database, latency: LatencyWindow) -> None:
    """Tells bulk runs how long searches take here, while there are any."""
    while True:
        await asyncio.sleep(_LATENCY_TOLD_EVERY_S)
        found = latency.latency()
        if found is not None:
            with contextlib.suppress(DocrayError):  # the searches themselves will tell that the database is away
                await announce(database, found)


async def _ended(task: "asyncio.Future[None]") -> None:
    """Ends what runs in the background; whoever needed it has had its error."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
