"""Ports over deployment handles: coalesced batches, a deadline on every call, errors translated. The only `.remote()` of a request."""

import asyncio
from collections.abc import Sequence

import numpy as np
from cachetools import LRUCache
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle

from docray.domain.errors import Overloaded, Unavailable
from docray.domain.ports import Vectors

_QUERY_DEADLINE_S = 10.0
_PASSAGES_DEADLINE_S = 300.0
_PASSAGES_A_CALL = 64  # 64 texts and 64 × 384 floats stay far below the 4 MiB that gRPC carries


class RemoteEmbedder:
    """`ports.Embedder` over the deployment `Embedder`. Queries that come in together leave in one call."""

    def __init__(self, handle: DeploymentHandle, *, query_cache_size: int = 10_000) -> None:
        self._handle = handle
        self._cache: LRUCache[str, Vectors] = LRUCache(max(query_cache_size, 1))
        self.model_id, self.dimension, self.max_tokens = "", 0, 0

    @classmethod
    async def connect(cls, handle: DeploymentHandle, *, query_cache_size: int = 10_000) -> "RemoteEmbedder":
        """Asks the deployment what it runs."""
        self = cls(handle, query_cache_size=query_cache_size)
        await self.open()
        return self

    async def open(self) -> None:
        """Learns model id, dimension and longest text. Unavailable when the deployment does not answer."""
        self.model_id, self.dimension, self.max_tokens = await self._call("describe", 60.0)

    async def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors of questions; those embedded before come from memory."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._cache]
        if missing:
            for text, vector in zip(missing, self._decode(await self._coalesced(missing)), strict=True):
                self._cache[text] = vector
        found = [self._cache.get(text) for text in texts]
        if any(vector is None for vector in found):  # evicted meanwhile: more texts than the cache holds
            return self._decode(await self._coalesced(list(texts)))
        return np.stack([vector for vector in found if vector is not None]) if found else np.empty((0, self.dimension), np.float32)

    async def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Vectors of passages, in calls of a bounded size."""
        parts = [
            self._decode(await self._call("embed_passages", _PASSAGES_DEADLINE_S, list(texts[start : start + _PASSAGES_A_CALL])))
            for start in range(0, len(texts), _PASSAGES_A_CALL)
        ]
        return np.concatenate(parts) if parts else np.empty((0, self.dimension), np.float32)

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text."""
        counts: list[int] = await self._call("count_tokens", _PASSAGES_DEADLINE_S, list(texts))
        return counts

    async def _coalesced(self, texts: list[str]) -> bytes:
        parts = await _in_one_call(self._handle, [texts])
        return parts

    async def _call(self, method: str, deadline_s: float, *arguments: object):  # type: ignore[no-untyped-def]
        return await _answer(getattr(self._handle, method).remote(*arguments), deadline_s)

    def _decode(self, data: bytes) -> Vectors:
        return np.frombuffer(data, dtype=np.float32).reshape(-1, self.dimension)


async def _answer(response, deadline_s: float):  # type: ignore[no-untyped-def]
    try:
        async with asyncio.timeout(deadline_s):
            return await response
    except BackPressureError as error:
        raise Overloaded(retry_after_s=1) from error
    except (TimeoutError, RayError, RayServeException) as error:
        raise Unavailable(retry_after_s=1) from error


@serve.batch(max_batch_size=32, batch_wait_timeout_s=0.001, max_concurrent_batches=4)
async def _send(batch: list[tuple[DeploymentHandle, list[str]]]) -> list[bytes]:
    handle = batch[0][0]
    texts = [text for _, some in batch for text in some]
    data = await _answer(handle.embed_queries.remote(texts), _QUERY_DEADLINE_S)
    width = len(data) // max(len(texts), 1)
    answers, start = [], 0
    for _, some in batch:
        answers.append(data[start * width : (start + len(some)) * width])
        start += len(some)
    return answers


async def _in_one_call(handle: DeploymentHandle, texts: list[list[str]]) -> bytes:
    return await _send((handle, texts[0]))
