"""Questions go first and together, passages give way, failures end calls and not the thread."""

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from docray.domain.errors import Unavailable
from docray.domain.ports import Embedder, Vectors
from models.compute_thread import MAX_COALESCED_QUERIES
from models.embedding import EmbeddingEngine
from models.in_process import InProcessEmbedder


class SteppedEngine:
    """An engine whose every call waits for permission, and which notes what it was asked. Vectors say the text's length."""

    model_id = "stepped@1"
    dimension = 2
    max_tokens = 1000

    def __init__(self, *, running: bool = True) -> None:
        self.calls: list[tuple[str, list[str]]] = []
        self.entered = threading.Semaphore(0)
        self.permits = threading.Semaphore(0)
        self.running = running
        self.closed = False

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        return self._embed("passages", texts)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self._embed("queries", texts)

    def _embed(self, kind: str, texts: Sequence[str]) -> Vectors:
        self.calls.append((kind, list(texts)))
        self.entered.release()
        if not self.running:
            assert self.permits.acquire(timeout=30)
        if "explode" in texts:
            raise RuntimeError("no more memory")
        if "wrong shape" in texts:
            return np.ones((len(texts) + 1, 2), np.float32)
        if "not a number" in texts:
            return np.full((len(texts), 2), np.nan, np.float32)
        return np.array([[len(text), 1.0] for text in texts], np.float32).reshape(-1, 2)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def warm_up(self) -> None:
        self.embed_queries(["warm"])

    def close(self) -> None:
        self.closed = True

    async def next_call(self) -> None:
        """Returns once the engine is inside one more call."""
        assert await asyncio.to_thread(self.entered.acquire, timeout=30)

    def step(self, calls: int = 1) -> None:
        self.permits.release(calls)

    def let_run(self) -> None:
        self.running = True
        self.step()


def test_it_is_the_port() -> None:
    engine: EmbeddingEngine = SteppedEngine()
    embedder: Embedder = InProcessEmbedder(engine)
    assert (embedder.model_id, embedder.dimension, embedder.max_tokens) == ("stepped@1", 2, 1000)


async def test_vectors_come_in_the_order_of_the_texts() -> None:
    embedder = InProcessEmbedder(SteppedEngine())
    texts = ["x" * (1 + (n * 37) % 500) for n in range(100)]
    lengths = [len(text) for text in texts]
    assert (await embedder.embed_passages(texts))[:, 0].tolist() == lengths
    assert (await embedder.embed_queries(texts))[:, 0].tolist() == lengths
    assert (await embedder.embed_queries([])).shape == (await embedder.embed_passages([])).shape == (0, 2)
    assert await embedder.count_tokens(["two words", ""]) == [2, 0]
    embedder.close()


async def test_questions_that_wait_are_embedded_together_and_one_that_comes_alone_does_not_wait() -> None:
    engine = SteppedEngine(running=False)
    embedder = InProcessEmbedder(engine)
    first = asyncio.create_task(embedder.embed_queries(["alone"]))
    await engine.next_call()
    rest = [asyncio.create_task(embedder.embed_queries([f"question {n}"])) for n in range(40)]
    await asyncio.sleep(0)  # each has queued its question by its first step
    engine.step(3)
    await asyncio.gather(first, *rest)
    assert [len(texts) for _, texts in engine.calls] == [1, MAX_COALESCED_QUERIES, 8]
    embedder.close()


async def test_a_call_of_many_questions_is_spread_over_batches() -> None:
    engine = SteppedEngine()
    embedder = InProcessEmbedder(engine)
    vectors = await embedder.embed_queries(["q" * (1 + n) for n in range(70)])
    assert vectors[:, 0].tolist() == list(range(1, 71))
    assert [len(texts) for _, texts in engine.calls] == [32, 32, 6]
    embedder.close()


async def test_a_question_waits_for_one_slice_of_passages_at_most() -> None:
    engine = SteppedEngine(running=False)
    embedder = InProcessEmbedder(engine)
    passages = asyncio.create_task(embedder.embed_passages(["p" * 980] * 10))
    await engine.next_call()
    question = asyncio.create_task(embedder.embed_queries(["now?"]))
    await asyncio.sleep(0)
    engine.step(2)
    await question
    assert not passages.done()
    assert [kind for kind, _ in engine.calls[:2]] == ["passages", "queries"]
    assert len(engine.calls[0][1]) == 1  # what one slow core is given until a slice was measured
    engine.let_run()
    assert len(await passages) == 10
    embedder.close()


async def test_jobs_of_passages_take_turns() -> None:
    engine = SteppedEngine(running=False)
    embedder = InProcessEmbedder(engine)
    large = asyncio.create_task(embedder.embed_passages(["l" * 1900] * 50))
    await engine.next_call()
    small = asyncio.create_task(embedder.embed_passages(["s" * 1900]))
    await asyncio.sleep(0)
    engine.step(3)
    await small
    assert not large.done()
    engine.let_run()
    assert len(await large) == 50
    embedder.close()


async def test_passages_whose_caller_has_gone_are_not_computed() -> None:
    engine = SteppedEngine(running=False)
    embedder = InProcessEmbedder(engine)
    abandoned = asyncio.create_task(embedder.embed_passages(["p" * 1900] * 50))
    await engine.next_call()
    abandoned.cancel()
    await asyncio.gather(abandoned, return_exceptions=True)
    engine.let_run()
    await embedder.embed_queries(["still there?"])
    await embedder.embed_passages(["p"])
    assert sum(len(texts) for kind, texts in engine.calls if kind == "passages" and texts != ["p"]) <= 2
    embedder.close()


# --- the cache ------------------------------------------------------------------------------------------------------------------


async def test_a_question_is_computed_once() -> None:
    engine = SteppedEngine()
    embedder = InProcessEmbedder(engine)
    first = await embedder.embed_queries(["one", "three", "one"])
    first[:] = 0  # what a caller does to its array stays with the caller
    again = await embedder.embed_queries(["three", "seven", "one"])
    assert again[:, 0].tolist() == [5, 5, 3]
    assert [texts for _, texts in engine.calls] == [["one", "three"], ["seven"]]
    embedder.close()


@pytest.mark.parametrize(("size", "computed"), [(0, ["a", "b", "a"]), (1, ["a", "b", "a"]), (2, ["a", "b"])])
async def test_the_cache_keeps_as_many_questions_as_set(size: int, computed: list[str]) -> None:
    engine = SteppedEngine()
    embedder = InProcessEmbedder(engine, query_cache_size=size)
    for text in ("a", "b", "a"):
        await embedder.embed_queries([text])
    assert [texts[0] for _, texts in engine.calls] == computed
    embedder.close()


async def test_passages_are_not_cached_as_questions() -> None:
    engine = SteppedEngine()
    embedder = InProcessEmbedder(engine)
    await embedder.embed_passages(["same"])
    await embedder.embed_queries(["same"])
    assert [kind for kind, _ in engine.calls] == ["passages", "queries"]
    embedder.close()


# --- failures -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["explode", "wrong shape", "not a number"])
async def test_a_failing_engine_ends_the_call_and_not_the_next(text: str) -> None:
    engine = SteppedEngine()
    embedder = InProcessEmbedder(engine)
    with pytest.raises(Unavailable):
        await embedder.embed_queries([text])
    with pytest.raises(Unavailable):
        await embedder.embed_passages(["fine", text])
    assert (await embedder.embed_queries(["fine"])).tolist() == [[4, 1]]
    with pytest.raises(Unavailable):
        await embedder.embed_queries([text])  # a failure is not kept
    embedder.close()


async def test_closing_ends_what_waits_and_what_comes() -> None:
    engine = SteppedEngine(running=False)
    embedder = InProcessEmbedder(engine)
    running = asyncio.create_task(embedder.embed_queries(["running"]))
    await engine.next_call()
    waiting = [asyncio.create_task(embedder.embed_queries(["waits"])), asyncio.create_task(embedder.embed_passages(["waits"]))]
    await asyncio.sleep(0)
    closing = asyncio.create_task(asyncio.to_thread(embedder.close))
    for task in waiting:
        with pytest.raises(Unavailable):
            await task
    engine.step()
    await closing
    assert (await running).tolist() == [[7, 1]]
    assert engine.closed
    for late in (embedder.embed_queries(["late"]), embedder.embed_passages(["late"])):
        with pytest.raises(Unavailable):
            await late
    assert len(engine.calls) == 1


def test_it_serves_several_event_loops() -> None:
    embedder = InProcessEmbedder(SteppedEngine())
    for text in ("one", "three"):
        assert asyncio.run(embedder.embed_queries([text]))[0, 0] == len(text)
    embedder.close()
