"""The ingest job: a generation of a document on its way to being published. One row is both, so nothing can disagree."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from docray.domain.documents import State

_FORWARD = {
    State.AWAITING_BLOB: {State.QUEUED},
    State.QUEUED: {State.PARSED},
    State.PARSED: {State.EMBEDDED},
    State.EMBEDDED: {State.INDEXED, State.PARSED},
    State.INDEXED: {State.READY},
    State.READY: set(),
    State.FAILED: {State.QUEUED},
    State.DELETING: set(),
}

ACTIVE = (State.QUEUED, State.PARSED, State.EMBEDDED, State.INDEXED)
"""States in which a generation waits for a worker or is in one's hands."""

RETRY_DELAYS_S = (1.0, 2.0, 4.0)
"""Waits before a transient error is tried again; after the last one the job fails with `dependency`."""


def may_follow(before: State, after: State) -> bool:
    """Whether a generation may go from one state to the other. Anything unfinished may fail; anything may be deleted."""
    if after is State.DELETING:
        return before is not State.DELETING
    if after is State.FAILED:
        return before in ACTIVE or before is State.AWAITING_BLOB
    return after in _FORWARD[before]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A job in a worker's hands until `until` (database clock). `fence` is this lease's number: every effect is recorded under it.

    `models` are those that the generation is to be embedded by where the worker has them, the one it is cut for first. A generation of a
    reindex is made of the stored pages of `source_generation`.
    """

    tenant_id: UUID
    document_id: UUID
    generation: int
    state: State
    fence: int
    attempt: int
    until: datetime
    blob_key: str
    filename: str
    title: str | None
    size_bytes: int
    models: tuple[str, ...] = ()
    reindex_id: UUID | None = None
    source_generation: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Purge:
    """What is to be removed everywhere: one generation of a document, or all of it (`generation` None)."""

    id: UUID
    tenant_id: UUID
    document_id: UUID
    generation: int | None
    fence: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResponse:
    """A 2xx answer kept for an Idempotency-Key."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = field(default_factory=tuple)
