"""Reindexes: a tenant's documents made anew beside what answers, then switched, kept for a way back, and finished.

A reindex builds generations like uploads do, by the same workers under the same leases. What it knows beyond them is which form everything
gets, when that is to answer, and what answered before.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True)
class IndexForm:
    """What an index entry depends on besides its page: the model that embeds it, and how the page was cut."""

    model: str
    chunker: str = ""


class ReindexState(enum.StrEnum):
    """Where a reindex stands."""

    BUILDING = "building"  # searches use the old form, but for documents that are switched one by one
    SWITCHED = "switched"  # searches use the new form; the old one is kept
    ROLLED_BACK = "rolled_back"  # searches use the old form again; the new one is purged
    FINISHED = "finished"  # the old form is purged


OPEN = (ReindexState.BUILDING, ReindexState.SWITCHED)
"""States that a tenant has one reindex in at most."""


class Switch(enum.StrEnum):
    """When new generations answer."""

    DOCUMENT = "document"  # each as soon as it is built
    TENANT = "tenant"  # all at once, when they are told to


@dataclass(frozen=True, slots=True, kw_only=True)
class ReindexCounts:
    """Documents that answer, by how far the reindex is with them; the numbers add up to `total`."""

    total: int = 0
    done: int = 0  # answer in the new form
    built: int = 0  # wait for the switch
    failed: int = 0  # could not be made anew, and stay as they are
    waiting: int = 0  # nothing is built of them yet
    pages_total: int = 0
    pages_done: int = 0  # of those done and built

    @property
    def is_built(self) -> bool:
        """Whether there is nothing left to build."""
        return self.waiting == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reindex:
    """A reindex as callers see it. `counts` are those of this moment; None once it has ended."""

    id: UUID
    state: ReindexState
    switch: Switch
    collection_id: UUID | None
    form: IndexForm
    model_before: str
    counts: ReindexCounts | None
    created_at: datetime
    switched_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewReindex:
    """A reindex to be started. `model_before` is what searches of a tenant use that has not been asked yet."""

    id: UUID
    form: IndexForm
    model_before: str
    switch: Switch
    collection_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class SearchForm:
    """What a tenant's searches go by. `model` is None before its first document; `reindexing`: it may be another one any moment; `crowded`: the
    index holds generations that do not answer, beside those that do."""

    model: str | None
    reindexing: bool = False
    crowded: bool = False


@dataclass(frozen=True, slots=True)
class Dropping:
    """Vectors of a tenant that an ended reindex left in a model's space, where nothing uses them."""

    tenant_id: UUID
    reindex_id: UUID
    model: str
    dimension: int


class ReindexPlanner(Protocol):
    """What workers do for reindexes beside building generations. Any number of them at once."""

    async def plan(self) -> bool:
        """Queues generations for documents that still need one, a few at a time, and ends the building of what switches by itself.

        False when nothing was to be done, of any tenant.
        """
        ...

    async def to_drop(self) -> Sequence[Dropping]:
        """What is to be removed from the index; none while the tenant has another reindex open."""
        ...

    async def dropped(self, dropping: Dropping) -> None:
        """Notes that it is gone."""
        ...
