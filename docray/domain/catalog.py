"""The catalogue: everything PostgreSQL knows, as Protocols over one transaction of one tenant.

`Catalog.transaction(principal)` is the only door. Inside, row-level security shows that tenant's rows and no others; leaving the
block commits, an exception rolls back. What is absent and what is another tenant's raise the same NotFound.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

from docray.domain.bulk import BulkRun, Driver, Ended, RunFile, SourceFile
from docray.domain.documents import Collection, Document, Membership, Page, State
from docray.domain.idempotency import IdempotencyClaim
from docray.domain.jobs import Lease, StoredResponse
from docray.domain.principals import ApiKey, Principal
from docray.domain.questions import Passage
from docray.domain.questions import Scope as SearchScope
from docray.domain.reindexes import NewReindex, Reindex, SearchForm

T = TypeVar("T", covariant=True)


class _Unset:
    """Marks a field of a patch that is left alone (None clears)."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET = _Unset()


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """One page of a list, newest first. `next_cursor` is None on the last page."""

    items: Sequence[T]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Paging:
    """How much of a list, and after which cursor. A cursor that is none raises InvalidField with param `after`."""

    limit: int = 50
    after: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentQuery:
    """Filters of the document list; None and empty restrict nothing. `metadata` compares as text, `q` are words of name and title."""

    collection_id: UUID | None = None
    state: State | None = None
    filename: str | None = None
    q: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    created_after: datetime | None = None  # inclusive
    created_before: datetime | None = None  # exclusive


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The stored PDF of the live generation (the first one while none is live)."""

    blob_key: str
    filename: str
    size_bytes: int
    sha256: str
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDocument:
    """What an accepted upload becomes."""

    id: UUID
    filename: str
    title: str | None
    metadata: Mapping[str, Any]
    sha256: str
    size_bytes: int
    collection_ids: tuple[UUID, ...] = ()


class Documents(Protocol):
    """Documents and their generations."""

    async def lock_content(self, sha256: str) -> None:
        """Until the transaction ends, nobody else of this tenant decides about these bytes."""
        ...

    async def find_content(self, sha256: str) -> Document | None:
        """The oldest document, not being deleted, whose current bytes these are."""
        ...

    async def insert(self, document: NewDocument) -> Document:
        """A queued document of generation 1. NotFound when a collection is absent."""
        ...

    async def get(self, document_id: UUID, *, lock: bool = False) -> Document:
        """The document, locked for update if asked. NotFound also while it is being deleted."""
        ...

    async def list(self, query: DocumentQuery, paging: Paging) -> Listing[Document]:
        """Newest first, stable under inserts."""
        ...

    async def patch(self, document_id: UUID, *, title: Any = UNSET, metadata: Any = UNSET) -> Document:
        """Sets whole fields; bumps the version, and the corpus epoch."""
        ...

    async def insert_generation(self, document_id: UUID, *, sha256: str, size_bytes: int, filename: str | None) -> tuple[Document, int]:
        """A queued next generation (a name given takes effect when it is published; at once for a document that has no live one).
        Supersedes one in work, whose purge is queued. Returns the document and the number of the new generation."""
        ...

    async def requeue(self, document_id: UUID) -> Document:
        """Queues the failed generation again. NotFailed unless the document or its replacement failed."""
        ...

    async def mark_deleting(self, document_id: UUID) -> None:
        """From the commit on no reader sees it; epoch + 1, purge queued. NotFound when absent."""
        ...

    async def content(self, document_id: UUID) -> Content:
        """Where its PDF lies."""
        ...

    async def page(self, document_id: UUID, number: int) -> Page:
        """A page of the live generation. NotFound outside 1…n and before there is one."""
        ...

    async def version(self, document_id: UUID) -> tuple[int, bool] | None:
        """(version, being deleted) of a row, also of one being deleted; None when it is gone."""
        ...

    async def count_by_state(self) -> Mapping[str, int]:
        """Documents of the tenant by state."""
        ...


class Collections(Protocol):
    """Collections and who is in them."""

    async def insert(self, collection_id: UUID, *, name: str, description: str | None, metadata: Mapping[str, Any]) -> Collection:
        """DuplicateName when the name is taken."""
        ...

    async def get(self, collection_id: UUID, *, lock: bool = False) -> Collection: ...

    async def list(self, paging: Paging) -> Listing[Collection]: ...

    async def patch(self, collection_id: UUID, *, name: Any = UNSET, description: Any = UNSET, metadata: Any = UNSET) -> Collection: ...

    async def delete(self, collection_id: UUID, *, delete_documents: bool) -> Sequence[UUID]:
        """Removes it; returns the documents it marked deleting: those that were in no other collection, when asked."""
        ...

    async def add(self, collection_id: UUID, document_id: UUID, attributes: Mapping[str, Any] | None) -> Membership:
        """Adds the document or sets its attributes (None: leaves those that are there). Epoch + 1."""
        ...

    async def remove(self, collection_id: UUID, document_id: UUID) -> None:
        """NotFound when it is not in it. Epoch + 1."""
        ...

    async def members(self, collection_id: UUID, paging: Paging) -> Listing[Membership]: ...


class Passages(Protocol):
    """Read-time authority: text and places of chunks that this principal may see now."""

    async def read(self, chunk_ids: Sequence[UUID], scope: SearchScope) -> Mapping[UUID, Passage]:
        """Those of the ids that belong to the live generation of a document that is ready, readable and in scope."""
        ...

    async def neighbours(self, document_id: UUID, generation: int, ns: Sequence[int]) -> Mapping[int, Passage]:
        """Chunks of a live generation by number."""
        ...

    async def pages(self, document_id: UUID, generation: int, numbers: Sequence[int]) -> Mapping[int, Page]:
        """Words and boxes of pages of a live generation."""
        ...

    async def any_in_scope(self, scope: SearchScope) -> bool:
        """Whether any ready document is in scope."""
        ...


class ApiKeys(Protocol):
    """The tenant's keys."""

    async def insert(self, key: ApiKey, secret_hash: bytes, *, operator: bool = False, user_id: UUID | None = None) -> ApiKey: ...

    async def get(self, key_id: UUID) -> ApiKey: ...

    async def list(self, paging: Paging) -> Listing[ApiKey]: ...

    async def revoke(self, key_id: UUID) -> ApiKey: ...


class BulkRuns(Protocol):
    """Runs and their files, within one transaction of a tenant. What is absent and what is another tenant's raise the same NotFound."""

    async def insert(self, run_id: UUID, source: str, collection_id: UUID | None) -> None:
        """A run without files, driven by nobody."""
        ...

    async def get(self, run_id: UUID) -> BulkRun: ...

    async def list(self, paging: Paging) -> Listing[BulkRun]: ...

    async def unfinished(self, source: str, collection_id: UUID | None) -> BulkRun | None:
        """The newest run of this source and collection, unless it is through."""
        ...

    async def drive(self, run_id: UUID, lease_s: float) -> Driver:
        """Makes the caller its driver. RunInProgress while another one's lease holds."""
        ...

    async def keep(self, driver: Driver, lease_s: float, seconds: float) -> None:
        """Extends the driver's lease and adds what it has worked since. LostLease when another one drives."""
        ...

    async def set_pace(self, driver: Driver, pace: float) -> None:
        """The share of their time, 0 to 1, that the run's operators may work from now on. LostLease when another one drives."""
        ...

    async def finish(self, driver: Driver, error: tuple[str, str] | None = None) -> BulkRun:
        """Ends the run: done, or failed with (code, message). LostLease when another one drives."""
        ...

    async def add_files(self, driver: Driver, files: Sequence[SourceFile]) -> None:
        """Files of different URIs, numbered on from those that are there; one that the run has already stays as it is. Those that an earlier
        run of the tenant ended, unchanged since and with a document that is still there, are known. LostLease when another one drives."""
        ...

    async def waiting(self, driver: Driver, first: int, end: int) -> Sequence[RunFile]:
        """Files numbered in `[first, end)` that still need work. LostLease when another one drives."""
        ...

    async def settle(self, driver: Driver) -> int:
        """Ends the files that were taken and whose document has ended without the run; how many."""
        ...

    async def document_of(self, driver: Driver, n: int) -> UUID | None:
        """The document that a file has, None before its bytes were read."""
        ...

    async def take(self, driver: Driver, n: int, document_id: UUID, lease_s: float) -> Lease | None:
        """Leases the newest generation of a file's document for the run. None when it is in somebody else's hands, or has ended."""
        ...

    async def end(self, driver: Driver, n: int, ended: Ended) -> None:
        """Notes how a file ended, once: a file that has ended stays as it is. LostLease when another one drives."""
        ...

    async def failures(self, run_id: UUID, limit: int) -> Sequence[tuple[str, str, str]]:
        """(uri, code, sentence) of files that could not be ingested, in order."""
        ...

    async def failure_counts(self, run_id: UUID) -> Mapping[str, int]:
        """How many files failed, by code, the commonest first."""
        ...


class Reindexes(Protocol):
    """Reindexes of the tenant, within one transaction. NotFound for what is absent; Conflicts say what to do first."""

    async def start(self, wanted: NewReindex) -> Reindex:
        """A reindex under way. One that was switched is finished by that; ReindexUnderWay while one is being built. NotFound when the
        collection is absent, InvalidField where a collection alone is to get another model."""
        ...

    async def get(self, reindex_id: UUID) -> Reindex: ...

    async def list(self, paging: Paging) -> Listing[Reindex]:
        """Newest first, without counts."""
        ...

    async def switch(self, reindex_id: UUID, *, accept_failures: bool) -> Reindex:
        """Everything that is built answers from the commit on, epoch + 1. ReindexNotBuilt while something waits, or failed unless accepted."""
        ...

    async def rollback(self, reindex_id: UUID) -> Reindex:
        """What answered before answers again from the commit on, epoch + 1; what was built is purged."""
        ...

    async def finish(self, reindex_id: UUID) -> Reindex:
        """What was kept is purged: from here there is no way back. ReindexNotSwitched before the switch."""
        ...

    async def retry(self, reindex_id: UUID) -> Reindex:
        """What failed is built again."""
        ...


class Transaction(Protocol):
    """One transaction of one tenant."""

    @property
    def documents(self) -> Documents: ...

    @property
    def collections(self) -> Collections: ...

    @property
    def passages(self) -> Passages: ...

    @property
    def api_keys(self) -> ApiKeys: ...

    @property
    def bulk_runs(self) -> BulkRuns: ...

    @property
    def reindexes(self) -> Reindexes: ...

    async def search_form(self) -> SearchForm:
        """What the tenant's searches go by now."""
        ...

    async def corpus_epoch(self) -> int:
        """Grows with every publish, delete and change of access."""
        ...

    async def audit(self, action: str, object_kind: str, object_id: UUID | None, details: Mapping[str, Any] | None = None) -> None:
        """Records who did what; never document text."""
        ...

    async def remember(self, claim: IdempotencyClaim, response: StoredResponse) -> None:
        """Stores the answer of an idempotent request with its effect. LostLease when the claim was taken over meanwhile."""
        ...


class Catalog(Protocol):
    """The door."""

    def transaction(self, principal: Principal) -> AbstractAsyncContextManager[Transaction]:
        """A transaction of the principal's tenant. Never await another service inside."""
        ...

    def reading(self, principal: Principal) -> AbstractAsyncContextManager[Passages]:
        """Passages alone, in a transaction that cannot write; inside `shared` in that one."""
        ...

    def shared(self, principal: Principal) -> AbstractAsyncContextManager[None]:
        """What is read by `reading` inside the block, and by an index of the same database, is read in one transaction of the tenant: one
        after the other, by the task that opened it. Never await another service inside."""
        ...
