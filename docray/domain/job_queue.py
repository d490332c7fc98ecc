"""The queue of ingest jobs and purges as workers see it."""

from collections.abc import Sequence
from typing import Protocol

from docray.domain.documents import Chunk, Failure, Page, State
from docray.domain.jobs import Lease, Purge


class JobQueue(Protocol):
    """Ingest jobs in PostgreSQL: leases with fences. All times are the database's."""

    async def lease(self, worker: str, lease_s: float, models: Sequence[str] = ()) -> Lease | None:
        """The next job of the tenant whose turn it is, or None. Takes over expired leases; more than 5 takeovers of the same
        generation fail it with `parser_crash`. Uploads come first, then what reindexes build by one of the models."""
        ...

    async def backlog(self) -> int:
        """How many generations of all tenants wait for a worker."""
        ...

    async def heartbeat(self, lease: Lease, lease_s: float) -> None:
        """Extends the lease. LostLease when the fence moved on or the document is being deleted."""
        ...

    async def progress(self, lease: Lease, stage: str, pages_done: int, pages_total: int | None) -> None:
        """Under the fence, LostLease otherwise. pages_done never goes back."""
        ...

    async def record_parsed(
        self, lease: Lease, pages: Sequence[Page], chunks: Sequence[Chunk], title: str | None, *, chunker: str | None = None
    ) -> None:
        """Writes pages and chunks of the generation (again: replaces them), QUEUED → PARSED. Of a reindex the pages are those of its source.
        `chunker` names how they were cut."""
        ...

    async def source_pages(self, lease: Lease) -> Sequence[Page]:
        """The stored pages that a generation of a reindex is made of, in order. LostLease when they are gone: the document was replaced."""
        ...

    async def chunks(self, lease: Lease) -> Sequence[Chunk]:
        """The stored chunks of the generation, to embed them."""
        ...

    async def record_state(
        self, lease: Lease, before: State, after: State, *, embedding_model: str | None = None, dimension: int | None = None,
        also: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """A compare-and-set of the state under the fence. LostLease when it does not hold. `also` are further models that embedded it."""
        ...

    async def publish(self, lease: Lease) -> None:
        """INDEXED → READY in one compare-and-set: live generation, page and chunk counts, epoch + 1, audit, usage, purge of the
        generation before. LostLease when the document is being deleted, or superseded meanwhile.

        A generation of a reindex answers only where that switches document by document or is switched already, and then the one before is
        kept; it is no new usage."""
        ...

    async def fail(self, lease: Lease, failure: Failure) -> None:
        """FAILED with a reason; what the generation had written is purged (its blob stays, for retry)."""
        ...

    async def retry_later(self, lease: Lease, delay_s: float) -> None:
        """Gives the job back after a transient error, to be leased again after the delay."""
        ...

    async def release(self, lease: Lease) -> None:
        """Gives the job back at once (shutdown)."""
        ...

    async def lease_purge(self, worker: str, lease_s: float) -> Purge | None:
        """The next purge that is due: never while an ingest lease of that generation still runs."""
        ...

    async def hold_purge(self, purge: Purge, lease_s: float) -> None:
        """Extends the lease of a purge. LostLease when another purger holds the order by now, or it was given again meanwhile."""
        ...

    async def finish_purge(self, purge: Purge) -> None:
        """Rows of pages and chunks go, and of the whole document with its last generation; then the order itself, under its fence."""
        ...

    async def blob_keys_of(self, purge: Purge) -> Sequence[str]:
        """The blobs that a purge is to remove."""
        ...

    async def known_blobs(self, keys: Sequence[str]) -> set[str]:
        """Those of the keys that a row owns."""
        ...

    async def maintain(self) -> None:
        """Drops idempotency keys past their time and makes next months' partitions."""
        ...
