"""Takes an upload's bytes over into a staging file of the blob store, while they arrive: size, `%PDF-` and SHA-256 on the way.

Owns the file until it becomes a blob; what does not become one is removed. Leaves HTTP to `docray.api`, rows to
`docray.ingestion.service`, and a fsync to the blob store.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from docray.domain.errors import NotAPdf, TooLarge, Unavailable
from docray.domain.ids import new_id
from docray.domain.ports import BlobStore

_HEADER = b"%PDF-"
_HEADER_WITHIN_BYTES = 1024
_BATCH_BYTES = 1 << 20  # what waits in memory before a thread writes and hashes it


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedFile:
    """A whole upload on disk, in the blob store's staging folder."""

    path: Path
    sha256: str
    size_bytes: int


class Staging:
    """One upload on its way in."""

    def __init__(self, path: Path, file: BinaryIO, max_bytes: int) -> None:
        self._path = path
        self._file = file
        self._max_bytes = max_bytes
        self._hash = hashlib.sha256()
        self._size = 0
        self._head = b""
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0

    async def write(self, data: bytes) -> None:
        """The next bytes. TooLarge above the limit, NotAPdf as soon as it is certain."""
        self._size += len(data)
        if self._size > self._max_bytes:
            raise TooLarge(param="file")
        if len(self._head) < _HEADER_WITHIN_BYTES:
            self._head = (self._head + data)[:_HEADER_WITHIN_BYTES]
            if len(self._head) == _HEADER_WITHIN_BYTES:
                self._check_header()
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes >= _BATCH_BYTES:
            await asyncio.to_thread(self._flush)

    async def finish(self) -> StagedFile:
        """Everything has arrived. NotAPdf without a header, an empty file too."""
        self._check_header()
        await asyncio.to_thread(self._close)
        return StagedFile(path=self._path, sha256=self._hash.hexdigest(), size_bytes=self._size)

    def _check_header(self) -> None:
        if _HEADER not in self._head:
            raise NotAPdf(param="file")

    def _flush(self) -> None:
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        with _disk():
            for data in waiting:
                self._file.write(data)
                self._hash.update(data)

    def _close(self) -> None:
        self._flush()
        with _disk():
            self._file.close()


class Intake:
    """Where uploads arrive."""

    def __init__(self, blobs: BlobStore, max_bytes: int) -> None:
        self._blobs = blobs
        self.max_bytes = max_bytes

    @contextlib.asynccontextmanager
    async def receive(self) -> AsyncIterator[Staging]:
        """A place for one upload. When the block ends, what has not become a blob is gone."""
        path = self._blobs.staging() / f"{new_id()}.part"
        with _disk():
            file = path.open("xb")
        try:
            yield Staging(path, file, self.max_bytes)
        finally:
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # what a full disk could not take is not wanted any more
                file.close()


@contextlib.contextmanager
def _disk() -> Iterator[None]:
    """A full or broken disk is a part of the service that is not available."""
    try:
        yield
    except OSError as error:
        raise Unavailable(retry_after_s=30.0) from error
