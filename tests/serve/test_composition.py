"""Deployments composed in Serve's local testing mode: the real engine behind the real handle, no cluster."""

import asyncio

import numpy as np
import pytest
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import BackPressureError

from docray.domain.errors import Overloaded, Unavailable
from serve_apps.embedder import Embedder
from serve_apps.handles import RemoteEmbedder, within

TEXTS = ["The ferry was late.", "Ice blocked the harbour.", "", "Zwölf Boxkämpfer jagen Viktor.", "港に氷があった。"]


@serve.deployment
class Caller:
    """What the gateway does with the embedder."""

    def __init__(self, handle: serve.handle.DeploymentHandle) -> None:
        self.embedder = RemoteEmbedder(handle)

    async def vectors(self, texts: list[str], kind: str) -> tuple[str, int, list[list[float]]]:
        if not self.embedder.model_id:
            await self.embedder.open()
        call = self.embedder.embed_queries if kind == "query" else self.embedder.embed_passages
        return self.embedder.model_id, self.embedder.dimension, (await call(texts)).tolist()

    async def at_once(self, texts: list[str]) -> list[list[float]]:
        await self.embedder.open()
        found = await asyncio.gather(*(self.embedder.embed_queries([text]) for text in texts))
        return [vectors[0].tolist() for vectors in found]

    async def tokens(self, texts: list[str]) -> list[int]:
        return await self.embedder.count_tokens(texts)


@pytest.fixture(scope="module")
def caller():
    handle = serve.run(Caller.bind(Embedder.bind()), name="composition", _local_testing_mode=True)
    yield handle
    serve.delete("composition") if serve.context._global_client else None


def test_vectors_come_back_whole_in_order_and_of_length_one(caller) -> None:
    model_id, dimension, vectors = caller.vectors.remote(TEXTS, "passage").result()
    assert model_id
    assert np.array(vectors).shape == (len(TEXTS), dimension)
    assert np.allclose(np.linalg.norm(np.array(vectors), axis=1), 1.0, atol=1e-3)


def test_questions_asked_together_get_each_its_own_vector(caller) -> None:
    together = np.array(caller.at_once.remote(TEXTS * 8).result())
    _, _, alone = caller.vectors.remote(TEXTS, "query").result()
    assert np.allclose(together, np.array(alone * 8), atol=2e-3)


def test_no_texts_are_no_vectors(caller) -> None:
    assert caller.vectors.remote([], "query").result()[2] == []
    assert caller.vectors.remote([], "passage").result()[2] == []


def test_tokens_are_counted_over_the_handle(caller) -> None:
    counts = caller.tokens.remote(TEXTS).result()
    assert len(counts) == len(TEXTS)
    assert counts[2] == 0
    assert counts[0] > 3


@pytest.mark.parametrize(
    ("error", "expected"),
    [(BackPressureError(num_queued_requests=9, max_queued_requests=8), Overloaded), (RayError(), Unavailable), (TimeoutError(), Unavailable)],
)
async def test_what_a_handle_raises_becomes_an_error_of_ours(error: Exception, expected: type[Exception]) -> None:
    async def answer() -> None:
        raise error

    with pytest.raises(expected):
        await within(answer(), 5.0)


async def test_an_answer_that_does_not_come_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        await within(asyncio.Event().wait(), 0.01)


