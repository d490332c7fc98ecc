"""docray without Ray in one process that can be killed: the gateway's app and an ingest worker over the real stores, behind a Unix socket.

Only the embedding model is a fake. A process may be armed: at the nth time that it reaches a failpoint it dies by SIGKILL, or stops by SIGSTOP.
Processes are forked from one that has imported everything, so that dozens of them cost seconds.
"""

import asyncio
import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import uvicorn
from fastapi import FastAPI

from docray import wiring
from docray.answering.retrieval import SearchService
from docray.answering.service import AnswerService
from docray.api.app import create_app
from docray.api.services import Services
from docray.domain.reindexes import IndexForm
from docray.ingestion.extract.limits import ParserLimits
from docray.ingestion.sandbox.client import Parser
from docray.resilience import failpoints
from docray.settings import Settings
from docray.stores.filesystem_blobs import FilesystemBlobs
from docray.stores.health_checks import BlobHealth, DatabaseHealth
from docray.stores.pgvector_index import PgVectorIndex
from docray.stores.postgres import Database
from docray.stores.postgres_catalog import PostgresCatalog
from docray.stores.postgres_idempotency import PostgresIdempotency
from docray.stores.postgres_keys import PostgresCredentials, PostgresTenants
from models.fakes import FakeEmbedder

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.resilience.site", "pytest", "docray.stores.migrate"])


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a site keeps its things, and how long its leases are."""

    app_dsn: str
    worker_dsn: str
    data_dir: Path
    lease_s: float = 1.5
    heartbeat_s: float = 0.3
    pool_size: int = 8
    blob_dir: Path | None = None

    def settings(self) -> Settings:
        """As the product's processes would read them."""
        return Settings(
            data_dir=self.data_dir, blob_dir=self.blob_dir, database_dsn=self.app_dsn, database_worker_dsn=self.worker_dsn,
            lease_s=self.lease_s, heartbeat_s=self.heartbeat_s, poll_s=0.05, log_level="ERROR", worker_concurrency=1,
            database_pool_size=self.pool_size,
        )  # type: ignore[arg-type]  # fmt: skip


@dataclass(frozen=True)
class Trap:
    """At the nth time that `point` is reached, the process sends itself `number`."""

    point: str
    nth: int = 1
    number: signal.Signals = signal.SIGKILL

    def hook(self) -> Callable[..., object]:
        """For `failpoints.arm`."""
        seen = 0

        async def sprung(point: str) -> None:
            nonlocal seen
            seen += point == self.point
            if point == self.point and seen == self.nth:
                os.kill(os.getpid(), self.number)

        return sprung


@dataclass(frozen=True)
class Tell:
    """Writes down every point that is reached."""

    file: Path

    def hook(self) -> Callable[..., object]:
        """For `failpoints.arm`."""

        async def told(point: str) -> None:
            with self.file.open("a") as file:
                file.write(f"{point}\n")

        return told


def warm_up() -> None:
    """Starts the process that the others are forked from, and waits until it has imported everything: seconds in which this one stands still."""
    first = _FORKS.Process(target=time.monotonic)
    first.start()
    first.join()


class Process:
    """One process of a site, serving until it is ended."""

    def __init__(self, place: Place, name: str, armed: Trap | Tell | None = None, clock_off_s: float = 0.0) -> None:
        self.socket = place.data_dir / f"{name}.sock"
        self._process = _FORKS.Process(target=_main, args=(place, name, self.socket, armed, clock_off_s))
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return self._process.exitcode == -signal.SIGKILL

    @property
    def stopped(self) -> bool:
        """Whether it stands still."""
        try:
            return psutil.Process(self.pid).status() == psutil.STATUS_STOPPED
        except psutil.NoSuchProcess:
            return False

    @property
    def works(self) -> bool:
        """Whether it is there and does not stand still."""
        return self._process.is_alive() and not self.stopped

    def send(self, number: signal.Signals) -> None:
        """A signal."""
        os.kill(self.pid, number)

    async def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Sends a signal that ends it, and waits until it has."""
        if self._process.is_alive():
            self.send(number)
        await asyncio.to_thread(self._process.join, 30)
        assert not self._process.is_alive()


def _main(place: Place, name: str, socket: Path, armed: Trap | Tell | None, clock_off_s: float) -> None:
    """What the forked process does."""
    if clock_off_s:
        shift_clock(clock_off_s)
    if armed is not None:
        failpoints.arm(armed.hook())  # type: ignore[arg-type]
    asyncio.run(_serve(place, name, socket))


def shift_clock(seconds: float) -> None:
    """This process's wall clock is off from here on; what counts seconds since some start is not."""
    real, real_ns = time.time, time.time_ns
    time.time = lambda: real() + seconds
    time.time_ns = lambda: real_ns() + int(seconds * 1e9)


@contextlib.asynccontextmanager
async def opened_app(place: Place) -> AsyncIterator[FastAPI]:
    """The gateway's app over a pool of its own. What draws pages starts when it is needed: never, here."""
    settings, database = place.settings(), Database(place.app_dsn, pool_size=place.pool_size)
    await database.open()
    catalog, blobs, embedder = PostgresCatalog(database), FilesystemBlobs(settings.blobs), FakeEmbedder(model_id="fake@1")
    blobs.prepare()
    search = SearchService(catalog=catalog, index=PgVectorIndex(database), embedder=embedder)
    parser = Parser(limits=ParserLimits())
    services = Services(
        settings=settings, catalog=catalog, credentials=PostgresCredentials(database), tenants=PostgresTenants(database),
        idempotency=PostgresIdempotency(database), blobs=blobs, search=search, pages=parser,
        answers=AnswerService(search=search, catalog=catalog, embedder=embedder, generator=None),
        health=(DatabaseHealth(database), BlobHealth(blobs)), index_form=IndexForm("fake@1", "another cut"), present_model="fake@1",
    )  # fmt: skip
    try:
        yield create_app(services)
    finally:
        await parser.close()
        await database.close()


async def _serve(place: Place, name: str, socket: Path) -> None:
    async with opened_app(place) as app, wiring.opened_worker(place.settings(), embedder=FakeEmbedder(model_id="fake@1"), name=name) as worker:
        working = asyncio.create_task(worker.run())
        config = uvicorn.Config(app, uds=os.fspath(socket), log_level="error", access_log=False, timeout_graceful_shutdown=3)
        try:
            await uvicorn.Server(config).serve()
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
