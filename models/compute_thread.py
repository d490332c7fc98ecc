"""One thread that runs an embedding engine: questions before passages, and none of it on the event loop.

Owns the order of work. Questions that wait together are embedded together, without waiting for more to come. Passages are
embedded in slices of about `SLICE_S`, so that a question waits for one slice at most; jobs of passages take turns. Leaves
computing to the engine, caching and the async face to `models.in_process`.
"""

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import TypeVar

import numpy as np

from docray.domain.errors import Unavailable
from docray.domain.ports import Vectors
from models.embedding import EmbeddingEngine

logger = logging.getLogger(__name__)

Item = TypeVar("Item")

MAX_COALESCED_QUERIES = 32
MAX_SLICE_TEXTS = 1024
SLICE_S = 0.05  # short batches cost no throughput (`models.openvino_embedder`)

FIRST_RATE = 20_000.0  # characters a second until one slice was measured: one slow core
RATE_MEMORY = 0.7  # how much of the old rate stays when a slice was measured
MAX_RATE_STEP = 2.0  # so that one lucky slice does not make the next one long
TEXT_OVERHEAD = 20  # characters that a text costs by being one
CHARACTERS_PER_TOKEN = 6  # what lies beyond this many per token of the limit is cut off and costs next to nothing


class ComputeThread:
    """Futures of vectors. The thread starts with the first job; `close` ends it. Safe for several threads."""

    def __init__(self, engine: EmbeddingEngine) -> None:
        self._engine = engine
        self._queries: deque[_Job] = deque()
        self._passages: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._rate = FIRST_RATE

    def embed_queries(self, texts: Sequence[str]) -> "Future[Vectors]":
        """Vectors of questions, in order. Several calls that wait are computed as one batch."""
        return self._submitted(self._queries, _Job(texts, self._engine.dimension))

    def embed_passages(self, texts: Sequence[str]) -> "Future[Vectors]":
        """Vectors of passages, in order, computed when no question waits, longest first so that slices hold texts of like length."""
        job = _Job(texts, self._engine.dimension)
        job.waiting.extend(sorted(_emptied(job.waiting), key=lambda index: -len(texts[index])))
        return self._submitted(self._passages, job)

    def close(self) -> None:
        """Ends the thread after what it computes now; jobs that wait end with Unavailable."""
        with self._changed:
            self._closed = True
            abandoned = [*_emptied(self._queries), *_emptied(self._passages)]
            self._changed.notify_all()
        for job in abandoned:
            job.fail(Unavailable())
        if self._thread is not None:
            self._thread.join()

    def _submitted(self, line: "deque[_Job]", job: "_Job") -> "Future[Vectors]":
        with self._changed:
            if self._closed:
                raise Unavailable()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="embedder", daemon=True)
                self._thread.start()
            if job.waiting:
                line.append(job)
                self._changed.notify()
            else:
                job.future.set_result(job.vectors)
        return job.future

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._queries or self._passages)
                if self._closed:
                    return
                questions = bool(self._queries)
                parts = self._next_questions() if questions else self._next_slice()
            if questions:
                self._compute(self._engine.embed_queries, parts)
            elif parts:
                self._compute_slice(parts)

    def _next_questions(self) -> "list[_Part]":
        """What waits, up to a batch; a call of many questions is spread over several batches."""
        parts: list[_Part] = []
        room = MAX_COALESCED_QUERIES
        while self._queries and room:
            job = self._queries[0]
            parts.append((job, job.take(room)))
            room -= len(parts[-1][1])
            if not job.waiting:
                self._queries.popleft()
        return parts

    def _next_slice(self) -> "list[_Part]":
        """The next slice of the job whose turn it is; nothing of a job that failed or whose caller has gone."""
        job = self._passages.popleft()
        if job.future.done():
            return []
        budget, count = self._rate * SLICE_S, 0
        for index in job.waiting:
            budget -= self._cost(job.texts[index])
            if (count and budget < 0) or count == MAX_SLICE_TEXTS:
                break
            count += 1
        indices = job.take(count)
        if job.waiting:
            self._passages.append(job)
        return [(job, indices)]

    def _compute_slice(self, parts: "list[_Part]") -> None:
        started = time.perf_counter()
        self._compute(self._engine.embed_passages, parts)
        cost = sum(self._cost(job.texts[index]) for job, indices in parts for index in indices)
        measured = min(cost / max(time.perf_counter() - started, 1e-6), MAX_RATE_STEP * self._rate)
        self._rate = RATE_MEMORY * self._rate + (1 - RATE_MEMORY) * measured

    def _compute(self, embed: Callable[[Sequence[str]], Vectors], parts: "list[_Part]") -> None:
        """Embeds the parts as one batch. Whatever the engine raises ends their jobs as Unavailable, not this thread."""
        parts = [(job, indices) for job, indices in parts if not job.future.done()]
        texts = [job.texts[index] for job, indices in parts for index in indices]
        if not texts:
            return
        try:
            vectors = _checked(embed(texts), len(texts), self._engine.dimension)
        except Exception as error:
            logger.exception("The embedding model failed on a batch of %d texts.", len(texts), extra={"action": "embed"})
            for job, _ in parts:
                failure = Unavailable()
                failure.__cause__ = error
                job.fail(failure)
            return
        start = 0
        for job, indices in parts:
            job.fill(indices, vectors[start : start + len(indices)])
            start += len(indices)

    def _cost(self, text: str) -> int:
        return TEXT_OVERHEAD + min(len(text), CHARACTERS_PER_TOKEN * self._engine.max_tokens)


class _Job:
    """Texts of one call, which of them still wait, and the vectors so far."""

    def __init__(self, texts: Sequence[str], dimension: int) -> None:
        self.texts = texts
        self.waiting = deque(range(len(texts)))
        self.vectors: Vectors = np.empty((len(texts), dimension), np.float32)
        self.future: Future[Vectors] = Future()
        self._missing = len(texts)

    def take(self, count: int) -> list[int]:
        """The next indices, at most `count`."""
        return [self.waiting.popleft() for _ in range(min(count, len(self.waiting)))]

    def fill(self, indices: list[int], vectors: Vectors) -> None:
        """Puts vectors in their places; the last ones complete the job."""
        self.vectors[indices] = vectors
        self._missing -= len(indices)
        if not self._missing:
            with contextlib.suppress(InvalidStateError):  # the caller has gone in this moment
                self.future.set_result(self.vectors)

    def fail(self, error: Exception) -> None:
        """Ends the job, unless it has ended."""
        with contextlib.suppress(InvalidStateError):
            self.future.set_exception(error)


_Part = tuple[_Job, list[int]]


def _emptied(line: deque[Item]) -> list[Item]:
    items = list(line)
    line.clear()
    return items


def _checked(vectors: Vectors, count: int, dimension: int) -> Vectors:
    """The engine's promise, checked: one finite vector per text. A wrong one would be indexed and never found again."""
    if vectors.shape != (count, dimension):
        raise ValueError(f"the engine returned vectors of shape {vectors.shape} for {count} texts of dimension {dimension}")
    if not np.isfinite(vectors).all():
        raise ValueError("the engine returned vectors that are not finite")
    return vectors
