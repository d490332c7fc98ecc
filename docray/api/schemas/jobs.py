"""Jobs: bulk runs as callers see them."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from docray.api.schemas.fields import Object
from docray.domain.bulk import RunState


class JobError(Object):
    """Why a job could not go on."""

    code: str
    message: str


class JobFiles(Object):
    """Files of a job by what became of them. `known` are those that an earlier job had ended and that have not changed since."""

    total: int
    ended: int
    ready: int
    failed: int
    duplicate: int
    known: int


class Job(Object):
    """A bulk ingestion. `interrupted`: its driver died, the same command goes on. `pace`: the share of its time that it works, less than 1 while
    searches would wait for it."""

    id: UUID
    object: Literal["job"]
    kind: Literal["bulk_ingest"]
    source: str
    collection_id: UUID | None
    state: RunState
    error: JobError | None
    files: JobFiles
    pages: int
    chunks: int
    size_bytes: int
    seconds: float
    pages_per_s: float | None
    seconds_left: float | None
    pace: float
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None


class JobList(Object):
    """A page of jobs, newest first."""

    object: Literal["list"]
    data: list[Job]
    has_more: bool
    next_cursor: str | None
