"""What docray needs from the world, as small Protocols. Adapters live in `docray.stores`, `models` and `serve_apps.handles`.

Stores and services are async. Every store call takes the principal, or a lease that names the tenant: there is no call without one.
All raise `docray.domain.errors` only; `Unavailable` when the technology behind does not answer.
"""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import numpy as np
import numpy.typing as npt

from docray.domain.documents import Chunk
from docray.domain.questions import Candidate, GeneratedText, Generation, Scope
from docray.domain.reindexes import Dropping

Vectors = npt.NDArray[np.float32]


class Embedder(Protocol):
    """Text → unit vectors, float32 of shape (n, dimension), same length and order as the texts."""

    model_id: str
    dimension: int
    max_tokens: int

    async def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors of questions. Cached by text where the adapter caches."""
        ...

    async def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Vectors of passages; gives way to queries where both wait."""
        ...

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text without special tokens."""
        ...


class Generator(Protocol):
    """A language model."""

    models: Sequence[str]

    def generate(self, request: Generation) -> AsyncIterator[GeneratedText]:
        """Streams text; the last piece carries the usage. Closing the iterator stops the model."""
        ...


class Reranker(Protocol):
    """Scores (question, passage) pairs, higher is better, same length and order as the passages."""

    async def rerank(self, question: str, passages: Sequence[str]) -> list[float]:
        """One score per passage."""
        ...


class BlobStore(Protocol):
    """PDFs by key (`docray.domain.ids.blob_key`). Blobs are immutable; a key is written whole or not at all."""

    async def put_file(self, key: str, source: Path) -> None:
        """Takes over a finished local file under the key, atomically and durably (fsync)."""
        ...

    async def open(self, key: str) -> Path:
        """A local, readable path of the blob. NotFound when there is none."""
        ...

    async def delete(self, key: str) -> None:
        """Removes the blob; nothing happens when there is none."""
        ...

    def staging(self) -> Path:
        """A folder on the same file system for files on their way in."""
        ...

    def list_keys(self, prefix: str = "") -> AsyncIterator[tuple[str, float]]:
        """Every key with its age in seconds."""
        ...


class ChunkIndex(Protocol):
    """Vectors and keywords of chunks. Yields ids and scores only; who may see what is decided elsewhere, at read time."""

    async def upsert(
        self, tenant_id: UUID, document_id: UUID, generation: int, chunks: Sequence[tuple[UUID, Chunk]], vectors: Vectors, model_id: str
    ) -> None:
        """Writes (chunk id, chunk) with its vector. Writing the same again changes nothing."""
        ...

    async def search_dense(self, tenant_id: UUID, vector: Vectors, limit: int, scope: Scope, model_id: str, crowded: bool = False) -> list[Candidate]:
        """Nearest passages by cosine, best first. `crowded`: looks further, past generations that do not answer, and leaves them out."""
        ...

    async def search_keyword(self, tenant_id: UUID, query: str, limit: int, scope: Scope, crowded: bool = False) -> list[Candidate]:
        """Best passages by words, BM25 quality, best first."""
        ...

    async def search_hybrid(
        self, tenant_id: UUID, query: str, vector: Vectors, limit: int, scope: Scope, model_id: str, crowded: bool = False
    ) -> tuple[list[Candidate], list[Candidate]]:
        """Both legs in one go: (dense, keyword). A passage that the model has not embedded may be found by its words."""
        ...

    async def purge(self, tenant_id: UUID, document_id: UUID, generation: int | None) -> int:
        """Removes a generation (all: None), repeats until nothing is left; returns how many rows went."""
        ...

    async def count(self, tenant_id: UUID, document_id: UUID, generation: int) -> int:
        """How many chunks of a generation the index holds."""
        ...

    async def drop(self, dropping: Dropping) -> int:
        """Removes the vectors that an ended reindex left, repeats until nothing is left; returns how many went."""
        ...


class HealthCheck(Protocol):
    """One dependency's health for `/readyz`."""

    name: str
    critical: bool

    async def check(self) -> dict[str, Any]:
        """{"ok", "latency_ms", "detail"}; never raises, names no host, path or version."""
        ...
