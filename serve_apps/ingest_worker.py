"""The ingest worker as a deployment: starts `docray.ingestion.worker` loops and stops them gracefully. Not parsing, not SQL."""

import asyncio
import os
import socket

from ray import serve

from docray import settings as environment
from docray import wiring
from docray.domain.ports import Embedder
from docray.ingestion import worker as ingestion
from models import configured
from serve_apps.embedder import NEXT_EMBEDDER
from serve_apps.handles import RemoteEmbedder


@serve.deployment(
    name="IngestWorker",
    max_ongoing_requests=8,
    health_check_period_s=5,
    health_check_timeout_s=10,
    graceful_shutdown_timeout_s=60,
)
class IngestWorker:
    """Leases jobs from PostgreSQL until it is told to stop. Takes no requests: the queue is the only way in."""

    def __init__(self, embedder_app: str | None = None) -> None:
        self._settings = environment.current()
        self._embedder_app = embedder_app
        self._worker: ingestion.IngestWorker | None = None
        self._started = asyncio.create_task(self._run())

    async def _run(self) -> None:
        name = f"{socket.gethostname()}/{os.getpid()}"
        embedder, following = await self._embedder(), await self._next_embedder()
        async with wiring.opened_worker(self._settings, embedder=embedder, next_embedder=following, name=name) as worker:
            self._worker = worker
            await worker.run()

    async def _embedder(self) -> Embedder:
        if self._embedder_app is None:
            return await asyncio.to_thread(configured.local_embedder, self._settings)
        return RemoteEmbedder(serve.get_deployment_handle("Embedder", self._embedder_app))

    async def _next_embedder(self) -> Embedder | None:
        if self._embedder_app is None:
            return await asyncio.to_thread(configured.next_embedder, self._settings)
        if self._settings.embedding_model_next is None:
            return None
        return RemoteEmbedder(serve.get_deployment_handle(NEXT_EMBEDDER, self._embedder_app))

    async def check_health(self) -> None:
        """Unhealthy when the loop ended: Serve then starts another replica. Never asks the database."""
        if self._started.done():
            self._started.result()
            raise RuntimeError("the worker loop ended")

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """The backlog that the last poll saw, for `serve_apps.scaling`."""
        return {"backlog": float(await self._worker.backlog()) if self._worker else 0.0}

    async def __del__(self) -> None:
        self._started.cancel()
        await asyncio.gather(self._started, return_exceptions=True)
