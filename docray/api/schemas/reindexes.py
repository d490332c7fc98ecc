"""Reindexes as callers see them."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from docray.api.schemas.fields import Body, Id, Object
from docray.domain.reindexes import ReindexState


class NewReindex(Body):
    """A reindex to be started. It brings the newest model that docray has loaded and its present way of cutting pages."""

    switch: Literal["tenant", "document"] = "tenant"
    collection_id: Id | None = None


class SwitchReindex(Body):
    """`accept_failures`: documents that could not be built stay as they are, and where the model is another one are found by words only."""

    accept_failures: bool = False


class ReindexDocuments(Object):
    """Documents that answer, by how far the reindex is with them; what is done, built, failed or waiting adds up to the total."""

    total: int
    done: int
    built: int
    failed: int
    waiting: int


class ReindexPages(Object):
    """Pages of those documents, and of those done and built."""

    total: int
    done: int


class Reindex(Object):
    """A reindex. `documents` and `pages` are those of this moment; null in lists, and once it has ended."""

    id: UUID
    object: Literal["reindex"]
    state: ReindexState
    switch: Literal["tenant", "document"]
    collection_id: UUID | None
    model: str
    model_before: str
    documents: ReindexDocuments | None
    pages: ReindexPages | None
    created_at: datetime
    switched_at: datetime | None
    ended_at: datetime | None


class ReindexList(Object):
    """A page of reindexes, newest first."""

    object: Literal["list"]
    data: list[Reindex]
    has_more: bool
    next_cursor: str | None
