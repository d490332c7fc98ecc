"""Bulk runs: a folder, manifest or bucket on its way in, file by file.

A run holds no documents of its own kind. Each file becomes an ordinary document whose generation the run leases like an ingest worker does;
what a run drops, the next run over the same source or an ingest worker takes up. One row a file tells what became of it.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID


class FileState(enum.StrEnum):
    """What became of a file of a run."""

    PENDING = "pending"  # nobody has read it yet
    TAKEN = "taken"  # it has a document that is on its way
    READY = "ready"  # its document answers
    FAILED = "failed"  # it cannot be read
    DUPLICATE = "duplicate"  # a document with these bytes was there
    KNOWN = "known"  # an earlier run ended it, and it has not changed since


class RunState(enum.StrEnum):
    """Where a run stands."""

    RUNNING = "running"
    INTERRUPTED = "interrupted"  # its driver died; the same command goes on where it stopped
    DONE = "done"  # every file has ended, well or not
    FAILED = "failed"  # the run itself could not go on


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A PDF that a source lists. `etag` tells whether its bytes have changed without reading them."""

    uri: str
    size_bytes: int
    etag: str
    title: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFile:
    """A file of a run. `document_id` is None until its bytes were read."""

    n: int
    file: SourceFile
    document_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a file ended, and what it came to."""

    state: FileState
    document_id: UUID | None = None
    failure: tuple[str, str] | None = None  # (code, sentence)
    pages: int = 0
    chunks: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkRun:
    """A run as its driver and callers see it. `seconds` are those that drivers have worked on it; `pace` is the share of
    their time that its operators may work, less than 1 while searches would wait for them; `version` grows with every change."""

    id: UUID
    source: str
    collection_id: UUID | None
    state: RunState
    error_code: str | None
    error_message: str | None
    fence: int
    files: int
    known: int
    ready: int
    failed: int
    duplicate: int
    pages: int
    chunks: int
    size_bytes: int
    seconds: float
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None
    version: int
    pace: float

    @property
    def ended(self) -> int:
        """Files that need no more work."""
        return self.known + self.ready + self.failed + self.duplicate

    @property
    def pages_per_s(self) -> float | None:
        """Since the run began; None before there is anything to tell."""
        return self.pages / self.seconds if self.pages and self.seconds else None

    @property
    def seconds_left(self) -> float | None:
        """By the pace of files so far; None where nothing tells."""
        worked = self.ended - self.known
        if self.state is not RunState.RUNNING or not worked or not self.seconds:
            return None
        return (self.files - self.ended) * self.seconds / worked


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """The right to drive a run: nothing is recorded for a driver whose fence is not the run's."""

    run_id: UUID
    fence: int

    @property
    def owner(self) -> str:
        """Whose leases of generations those of this driver are; a later driver of the run takes over what begins with the same id."""
        return f"bulk/{self.run_id}/{self.fence}"
