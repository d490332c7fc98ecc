"""What happens to a document, step by step, over the catalogue and the blob store: accept, replace, patch, retry, delete.

Every effect is one transaction; its last step, `conclude`, makes the caller's answer inside it, so that an idempotent request stores
its answer with its effect. Bytes are durable before the row that names them is: a crash leaves a blob without a row, which the
worker's sweep removes, never a row without its blob. Leaves taking bytes over to `docray.ingestion.intake`, HTTP to `docray.api`.
"""

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

import orjson

from docray.domain.catalog import UNSET, Catalog, NewDocument, Transaction
from docray.domain.documents import Document, State
from docray.domain.errors import DocrayError, Unavailable
from docray.domain.ids import blob_key, new_id
from docray.domain.ports import BlobStore
from docray.domain.principals import Principal
from docray.ingestion.filenames import clean_filename
from docray.ingestion.intake import StagedFile
from docray.ingestion.merge_patch import merged
from docray.resilience.failpoints import reached

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A PDF that was taken over, and what was said about it. `create`: a document of its own even if the bytes are known."""

    file: StagedFile
    filename: str | None
    title: str | None = None
    metadata: Mapping[str, Any]
    collection_ids: tuple[UUID, ...] = ()
    create: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The document; `duplicate` when these bytes were there already and nothing is queued."""

    document: Document
    duplicate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentPatch:
    """A merge patch (RFC 7396). UNSET leaves alone, None clears."""

    title: Any = UNSET
    metadata: Any = UNSET


class _UnstoredError(Exception):
    """The document with these bytes went away between the look and the decision: the bytes must be stored after all."""


class DocumentService:
    """Changes to documents. Every method raises NotFound for what is absent, foreign or being deleted."""

    def __init__(self, catalog: Catalog, blobs: BlobStore) -> None:
        self._catalog = catalog
        self._blobs = blobs

    async def accept(self, principal: Principal, upload: Upload, conclude: Callable[[Transaction, Accepted], Awaitable[R]]) -> R:
        """A new document, or the one that has these bytes: ready or in work it joins the collections, failed it is queued again.

        NotFound when a collection is absent.
        """
        known = not upload.create and await self._known(principal, upload.file.sha256)
        if known:
            try:
                return await self._accept(principal, upload, None, conclude)
            except _UnstoredError:
                pass
        document_id = new_id()
        key = blob_key(principal.tenant_id, document_id, 1)
        await reached("upload.before_effect")
        await self._blobs.put_file(key, upload.file.path)
        await reached("upload.before_record")
        used = committing = False

        async def conclude_knowing_use(tx: Transaction, accepted: Accepted) -> R:
            nonlocal used, committing
            used = accepted.document.id == document_id
            result = await conclude(tx, accepted)
            committing = True
            return result

        try:
            result = await self._accept(principal, upload, document_id, conclude_knowing_use)
        except DocrayError as error:
            # Where the outcome of a commit that names the blob is unknown, it stays: the sweep removes it if no row names it. Before that,
            # for want of a connection or a lock, nothing names it: in a storm such blobs would fill the disk for a day.
            if not (used and committing and isinstance(error, Unavailable)):
                await self._discard(key)
            raise
        if not used:  # another upload of the same bytes was first
            await self._discard(key)
        return result

    async def _discard(self, key: str) -> None:
        """Removes a blob that no row names; where that fails the sweep will."""
        with contextlib.suppress(DocrayError):
            await self._blobs.delete(key)

    async def _known(self, principal: Principal, sha256: str) -> bool:
        """Whether storing the bytes would probably be for nothing. Decides nothing."""
        async with self._catalog.transaction(principal) as tx:
            return await tx.documents.find_content(sha256) is not None

    async def _accept(
        self, principal: Principal, upload: Upload, stored_as: UUID | None, conclude: Callable[[Transaction, Accepted], Awaitable[R]]
    ) -> R:
        async with self._catalog.transaction(principal) as tx:
            accepted = None
            if not upload.create:
                await tx.documents.lock_content(upload.file.sha256)
                found = await tx.documents.find_content(upload.file.sha256)
                accepted = await self._join(tx, found, upload) if found else None
            if accepted is None:
                if stored_as is None:
                    raise _UnstoredError
                accepted = await self._insert(tx, stored_as, upload)
            result = await conclude(tx, accepted)
            await reached("upload.before_commit")
        await reached("upload.after_record")
        return result

    async def _join(self, tx: Transaction, found: Document, upload: Upload) -> Accepted:
        """The same bytes again."""
        joined = [collection_id for collection_id in upload.collection_ids if collection_id not in found.collection_ids]
        for collection_id in joined:
            await tx.collections.add(collection_id, found.id, None)
        failed = found.state is State.FAILED
        if failed:
            document = await tx.documents.requeue(found.id)
        else:
            document = await tx.documents.get(found.id) if joined else found
        if failed or joined:
            details = {"collection_ids": [str(collection_id) for collection_id in joined]}
            await tx.audit("document.requeue" if failed else "document.duplicate", "document", found.id, details)
        return Accepted(document=document, duplicate=not failed)

    async def _insert(self, tx: Transaction, document_id: UUID, upload: Upload) -> Accepted:
        document = await tx.documents.insert(
            NewDocument(
                id=document_id,
                filename=clean_filename(upload.filename),
                title=upload.title,
                metadata=upload.metadata,
                sha256=upload.file.sha256,
                size_bytes=upload.file.size_bytes,
                collection_ids=upload.collection_ids,
            )
        )
        await tx.audit("document.create", "document", document_id, {"size_bytes": upload.file.size_bytes})
        return Accepted(document=document)

    async def replace(
        self, principal: Principal, document_id: UUID, file: StagedFile, filename: str | None,
        conclude: Callable[[Transaction, Accepted], Awaitable[R]],
    ) -> R:  # fmt: skip
        """A next generation from new bytes; a name sent along renames. The live bytes again change nothing but a replacement in the
        way: that one is superseded like by any other bytes, so that the last one sent is what stays."""
        name = clean_filename(filename) if filename else None
        async with self._catalog.transaction(principal) as tx:
            before = await tx.documents.get(document_id, lock=True)
            if before.state is State.READY and before.sha256 == file.sha256 and before.replacement is None:
                return await conclude(tx, Accepted(document=before, duplicate=True))
            document, generation = await tx.documents.insert_generation(
                document_id, sha256=file.sha256, size_bytes=file.size_bytes, filename=name
            )
            # Only now is the generation known, and with it the blob's key, so this one call stands inside a transaction. What a
            # rollback leaves behind is overwritten by the next replacement, which gets the same number, or swept.
            await reached("replace.before_effect")
            await self._blobs.put_file(blob_key(principal.tenant_id, document_id, generation), file.path)
            await tx.audit("document.replace", "document", document_id, {"generation": generation, "size_bytes": file.size_bytes})
            result = await conclude(tx, Accepted(document=document))
            await reached("replace.before_record")
        await reached("replace.after_record")
        return result

    async def patch(
        self,
        principal: Principal,
        document_id: UUID,
        patch: DocumentPatch,
        check: Callable[[Document], None],
        conclude: Callable[[Transaction, Document], Awaitable[R]],
    ) -> R:
        """Title and metadata, read and written under one lock. `check` sees the document before and raises PreconditionFailed."""
        async with self._catalog.transaction(principal) as tx:
            document = await tx.documents.get(document_id, lock=True)
            check(document)
            changes: dict[str, Any] = {}
            if patch.title is not UNSET and patch.title != document.title:
                changes["title"] = patch.title
            if patch.metadata is not UNSET:
                metadata = merged(document.metadata, patch.metadata or {}) if patch.metadata is not None else {}
                if _json(metadata) != _json(document.metadata):  # Python holds 1 and true for equal
                    changes["metadata"] = metadata
            if changes:
                document = await tx.documents.patch(document_id, **changes)
                await tx.audit("document.patch", "document", document_id, {"fields": sorted(changes)})
            return await conclude(tx, document)

    async def retry(self, principal: Principal, document_id: UUID, conclude: Callable[[Transaction, Document], Awaitable[R]]) -> R:
        """Queues what failed again: the document, or its replacement. NotFailed otherwise."""
        async with self._catalog.transaction(principal) as tx:
            document = await tx.documents.requeue(document_id)
            await tx.audit("document.retry", "document", document_id)
            return await conclude(tx, document)

    async def delete(self, principal: Principal, document_id: UUID, conclude: Callable[[Transaction], Awaitable[R]]) -> R:
        """From the commit on nobody sees it; its purge is queued."""
        async with self._catalog.transaction(principal) as tx:
            await tx.documents.mark_deleting(document_id)
            await tx.audit("document.delete", "document", document_id)
            result = await conclude(tx)
            await reached("delete.before_record")
        await reached("delete.after_record")
        return result


def _json(value: Mapping[str, Any]) -> bytes:
    return orjson.dumps(dict(value), option=orjson.OPT_SORT_KEYS)
