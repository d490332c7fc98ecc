"""The operator that embeds: chunks of several documents at once, so that small documents fill batches too."""

import pickle
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow

from docray import settings as environment
from docray.domain.ports import Vectors
from docray.ingestion.bulk import ReadFile
from models.configured import embedding_engine
from pipelines.giving_way import lower_priority, rests_of
from pipelines.plan import Plan

_AT_ONCE = 256  # chunks between two rests: a second or two of work


class EmbedChunks:
    """Rows of chunks → the same rows with `vectors` (float32 bytes, row by row) and `model_id`. An actor, for the engine that it loads."""

    def __init__(self, plan: Plan) -> None:
        lower_priority()
        self._rests = rests_of(plan)
        self._engine = embedding_engine(environment.load())

    def __call__(self, batch: pyarrow.Table) -> pyarrow.Table:
        """Embeds the chunks of all rows together."""
        files: list[ReadFile | None] = [unpacked(payload) for payload in batch.column("payload").to_pylist()]
        texts = [chunk.indexed_text for file in files if file for chunk in file.chunks]
        vectors = self._embedded(texts)
        ends = np.cumsum([len(file.chunks) if file else 0 for file in files])
        parts = [part.tobytes() for part in np.split(vectors, ends[:-1])]
        table = batch.append_column("vectors", pyarrow.array(parts, pyarrow.binary()))
        return table.append_column("model_id", pyarrow.array([self._engine.model_id] * len(parts), pyarrow.string()))

    def _embedded(self, texts: Sequence[str]) -> Vectors:
        """By length, as the engine itself would, but with rests in between."""
        vectors = np.empty((len(texts), self._engine.dimension), np.float32)
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        for first in range(0, len(order), _AT_ONCE):
            places, started = order[first : first + _AT_ONCE], time.monotonic()
            vectors[places] = self._engine.embed_passages([texts[place] for place in places])
            self._rests.after(time.monotonic() - started)
        return vectors


def unpacked(payload: bytes) -> Any:
    """The `ReadFile` of a payload, None of an empty one. Payloads come from our own operators, through Ray, which pickles itself."""
    return pickle.loads(payload) if payload else None  # noqa: S301
