"""Ports over deployment handles: coalesced batches, a deadline on every call, errors translated. The only `.remote()` of a request."""

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Sequence
from typing import TypeVar

import numpy as np
from cachetools import LRUCache
from ray.exceptions import RayError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle

from docray.domain.errors import DocrayError, Overloaded, Unavailable
from docray.domain.ports import Vectors

T = TypeVar("T")

_DESCRIBE_DEADLINE_S = 60.0
_QUERY_DEADLINE_S = 10.0
_PASSAGES_DEADLINE_S = 300.0
_CALLS_AT_ONCE = 4
_CALLERS_A_CALL = 32
_PASSAGES_A_CALL = 64  # 64 texts and 64 × 384 floats stay far below the 4 MiB that gRPC carries


class RemoteEmbedder:
    """`ports.Embedder` over the deployment `Embedder`. Questions that come in together leave in one call."""

    def __init__(self, handle: DeploymentHandle, *, query_cache_size: int = 10_000) -> None:
        self._handle = handle
        self._cache: LRUCache[str, Vectors] = LRUCache(query_cache_size)
        self._cache_lock = threading.Lock()
        self._waiting: deque[tuple[list[str], asyncio.Future[Vectors]]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._calls = 0
        self.model_id, self.dimension, self.max_tokens = "", 0, 0

    async def open(self) -> None:
        """Learns model id, dimension and longest text. Unavailable when the deployment does not answer."""
        described = await within(self._handle.describe.remote(), _DESCRIBE_DEADLINE_S)
        self.model_id, self.dimension, self.max_tokens = described

    async def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors of questions; those embedded before come from memory."""
        with self._cache_lock:
            found = {text: self._cache[text] for text in texts if text in self._cache}
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        if missing:
            found.update(zip(missing, await self._embed_together(missing), strict=True))
            with self._cache_lock:
                self._cache.update((text, found[text]) for text in missing if self._cache.maxsize)
        return np.stack([found[text] for text in texts]) if texts else np.empty((0, self.dimension), np.float32)

    async def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Vectors of passages, in calls of a bounded size."""
        parts = [np.empty((0, self.dimension), np.float32)]
        for start in range(0, len(texts), _PASSAGES_A_CALL):
            answer = self._handle.embed_passages.remote(list(texts[start : start + _PASSAGES_A_CALL]))
            parts.append(self._decoded(await within(answer, _PASSAGES_DEADLINE_S)))
        return np.concatenate(parts)

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text."""
        return await within(self._handle.count_tokens.remote(list(texts)), _PASSAGES_DEADLINE_S)

    async def _embed_together(self, texts: list[str]) -> Vectors:
        """One caller's vectors. While a call is on its way, those who come meanwhile gather for the next: no waiting when idle."""
        ours = asyncio.get_running_loop().create_future()
        self._waiting.append((texts, ours))
        if self._calls < _CALLS_AT_ONCE:
            self._calls += 1
            task = asyncio.create_task(self._drain())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        found: Vectors = await ours
        return found

    async def _drain(self) -> None:
        try:
            while self._waiting:
                callers = [self._waiting.popleft() for _ in range(min(len(self._waiting), _CALLERS_A_CALL))]
                await self._call_for([caller for caller in callers if not caller[1].done()])
        finally:
            self._calls -= 1

    async def _call_for(self, callers: Sequence[tuple[list[str], "asyncio.Future[Vectors]"]]) -> None:
        texts = [text for asked, _ in callers for text in asked]
        try:
            vectors = self._decoded(await within(self._handle.embed_queries.remote(texts), _QUERY_DEADLINE_S))
        except DocrayError as error:
            for _, future in callers:
                if not future.done():
                    future.set_exception(error)
            return
        ends = np.cumsum([len(asked) for asked, _ in callers])
        for (_, future), part in zip(callers, np.split(vectors, ends[:-1]), strict=True):
            if not future.done():
                future.set_result(part)

    def _decoded(self, data: bytes) -> Vectors:
        return np.frombuffer(data, dtype=np.float32).reshape(-1, self.dimension)


async def within(answer: Awaitable[T], deadline_s: float) -> T:
    """A handle's answer, in time. Overloaded when its queue is full, Unavailable when it does not come."""
    try:
        async with asyncio.timeout(deadline_s):
            return await answer
    except BackPressureError as error:
        raise Overloaded(retry_after_s=1) from error
    except (TimeoutError, RayError, RayServeException) as error:
        raise Unavailable(retry_after_s=1) from error
