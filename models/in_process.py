"""The embedder port over an engine in this process: the async face and the cache of question vectors.

Leaves the order of work to `models.compute_thread` and computing to the engine.
"""

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
from cachetools import LRUCache

from docray.domain.ports import Vectors
from models.compute_thread import ComputeThread
from models.embedding import EmbeddingEngine


class InProcessEmbedder:
    """`docray.domain.ports.Embedder` over a local engine, from any event loop. Raises `Unavailable` when the engine fails or is closed.

    Args:
        engine: Open; closed by `close`.
        query_cache_size: How many questions' vectors are kept, by model id and text; 0 keeps none. 10,000 of MiniLM are 15 MB.
    """

    def __init__(self, engine: EmbeddingEngine, *, query_cache_size: int = 10_000) -> None:
        self.model_id = engine.model_id
        self.dimension = engine.dimension
        self.max_tokens = engine.max_tokens
        self._engine = engine
        self._compute = ComputeThread(engine)
        self._cache: LRUCache[tuple[str, str], Vectors] = LRUCache(query_cache_size)
        self._cache_lock = threading.Lock()

    async def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors of questions: from the cache, else computed, together with the questions that other callers wait for."""
        found = self._cached(texts)
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        if missing:
            computed = await asyncio.wrap_future(self._compute.embed_queries(missing))
            found.update(zip(missing, computed, strict=True))
            self._remember(missing, computed)
        vectors = np.empty((len(texts), self.dimension), np.float32)
        for row, text in enumerate(texts):
            vectors[row] = found[text]
        return vectors

    async def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Vectors of passages; questions go first."""
        return await asyncio.wrap_future(self._compute.embed_passages(texts))

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text without special tokens."""
        return await asyncio.to_thread(self._engine.count_tokens, texts)

    async def warm_up(self) -> None:
        """Runs the engine's examples, off the event loop."""
        await asyncio.to_thread(self._engine.warm_up)

    def close(self) -> None:
        """Ends the thread and closes the engine; calls that wait end as Unavailable. Blocks for one slice at most."""
        self._compute.close()
        self._engine.close()

    def _cached(self, texts: Sequence[str]) -> dict[str, Vectors]:
        with self._cache_lock:
            hits = {text: self._cache.get((self.model_id, text)) for text in texts}
        return {text: vector for text, vector in hits.items() if vector is not None}

    def _remember(self, texts: Sequence[str], vectors: Vectors) -> None:
        if not self._cache.maxsize:
            return
        with self._cache_lock:
            for text, vector in zip(texts, vectors, strict=True):
                self._cache[self.model_id, text] = vector.copy()  # a view would keep its whole batch alive
