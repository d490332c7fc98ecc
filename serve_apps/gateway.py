"""The ingress deployment: mounts the FastAPI factory with the services that wiring builds. Not routes."""

from fastapi import FastAPI
from ray import serve
from ray.serve.config import BackpressureConfig
from ray.serve.handle import DeploymentHandle

from docray import settings as environment
from docray import wiring
from docray.domain.ports import Embedder
from models import configured
from serve_apps.handles import RemoteEmbedder


@serve.deployment(
    name="Gateway",
    max_ongoing_requests=256,
    max_queued_requests=128,
    backpressure_config=BackpressureConfig(status_code=429, retry_after_s=1),
    health_check_period_s=5,
    health_check_timeout_s=10,
    graceful_shutdown_timeout_s=40,
)
@serve.ingress()
class Gateway:
    """One API process: auth, limits, search, prompt and JSON happen here; at most one hop, to the embedder."""

    def __init__(self, embedder: DeploymentHandle | None = None, next_embedder: DeploymentHandle | None = None) -> None:
        self._handle = embedder
        self._next_handle = next_embedder
        self._settings = environment.current()

    def __serve_build_asgi_app__(self) -> FastAPI:
        """The app; its services open in the lifespan, on the loop that serves requests."""
        return wiring.build_gateway(
            self._settings, embedder=self._embedder, next_embedder=self._next_embedder, generator=lambda: configured.language_model(self._settings)
        )

    def _embedder(self) -> Embedder:
        if self._handle is not None:
            return RemoteEmbedder(self._handle)
        return configured.local_embedder(self._settings, "queries")

    def _next_embedder(self) -> Embedder | None:
        if self._handle is not None:
            return None if self._next_handle is None else RemoteEmbedder(self._next_handle)
        return configured.next_embedder(self._settings, "queries")
