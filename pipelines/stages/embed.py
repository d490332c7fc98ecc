"""The operator that embeds: chunks of several documents at once, so that small documents fill batches too."""

import pickle
from typing import Any

import numpy as np
import pyarrow

from docray import settings as environment
from docray.ingestion.bulk import ReadFile
from models.configured import embedding_engine


class EmbedChunks:
    """Rows of chunks → the same rows with `vectors` (float32 bytes, row by row) and `model_id`. An actor, for the engine that it loads."""

    def __init__(self) -> None:
        self._engine = embedding_engine(environment.load())

    def __call__(self, batch: pyarrow.Table) -> pyarrow.Table:
        """Embeds the chunks of all rows together; the engine sorts them by length."""
        files: list[ReadFile | None] = [unpacked(payload) for payload in batch.column("payload").to_pylist()]
        texts = [chunk.indexed_text for file in files if file for chunk in file.chunks]
        vectors = self._engine.embed_passages(texts)
        ends = np.cumsum([len(file.chunks) if file else 0 for file in files])
        parts = [part.tobytes() for part in np.split(vectors, ends[:-1])]
        table = batch.append_column("vectors", pyarrow.array(parts, pyarrow.binary()))
        return table.append_column("model_id", pyarrow.array([self._engine.model_id] * len(parts), pyarrow.string()))


def unpacked(payload: bytes) -> Any:
    """The `ReadFile` of a payload, None of an empty one. Payloads come from our own operators, through Ray, which pickles itself."""
    return pickle.loads(payload) if payload else None  # noqa: S301
