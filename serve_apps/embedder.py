"""The embedder as a deployment around `models`, which batches what waits, questions before passages. Not tokenising, not caching.

(`serve.batch` would wait for more to come, also when idle, and knows one kind of request only.)

Text goes in and float32 vectors come out as bytes: a handle call costs 1.2–5 ms, so the callers coalesce theirs too (`handles`).
"""

import asyncio

from ray import serve
from ray.serve.config import BackpressureConfig

from docray import settings as environment
from models import configured

NEXT_EMBEDDER = "EmbedderNext"
"""The deployment of the model that a reindex is to bring."""


@serve.deployment(
    name="Embedder",
    max_ongoing_requests=64,
    max_queued_requests=256,
    backpressure_config=BackpressureConfig(status_code=429, retry_after_s=1),
    health_check_period_s=5,
    graceful_shutdown_timeout_s=20,
)
class Embedder:
    """One engine per replica. Queries of several gateways are batched; passages run in slices between them."""

    def __init__(self, *, following: bool = False) -> None:
        """`following`: the model that a reindex is to bring, and not the present one."""
        settings = environment.current().model_copy(update={"query_cache_size": 0})
        chosen = configured.next_settings(settings) if following else settings
        if chosen is None:
            raise RuntimeError("DOCRAY_EMBEDDING_MODEL_NEXT names no model: set it for every process of the cluster, or deploy again")
        self._embedder = configured.local_embedder(chosen)

    async def describe(self) -> tuple[str, int, int]:
        """(model id, dimension, longest text in tokens)."""
        return self._embedder.model_id, self._embedder.dimension, self._embedder.max_tokens

    async def embed_queries(self, texts: list[str]) -> bytes:
        """Vectors as float32 bytes, row by row."""
        return (await self._embedder.embed_queries(texts)).tobytes()

    async def embed_passages(self, texts: list[str]) -> bytes:
        """Vectors as float32 bytes, row by row."""
        return (await self._embedder.embed_passages(texts)).tobytes()

    async def count_tokens(self, texts: list[str]) -> list[int]:
        """Tokens of each text."""
        return await self._embedder.count_tokens(texts)

    async def __del__(self) -> None:
        await asyncio.to_thread(self._embedder.close)
