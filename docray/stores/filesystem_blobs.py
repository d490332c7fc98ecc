"""PDFs in a folder: one file per key, written whole or not at all, and durable when `put_file` returns.

`DIRECTORY/objects` holds the blobs, `DIRECTORY/staging` what is on its way in; both on one file system, so that taking over is a
rename. Keys are checked: whatever they hold, nothing outside the folder is ever touched.
"""

import asyncio
import contextlib
import os
import re
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from docray.domain.errors import NotFound, Unavailable

_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,200}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,200}){0,7}")
_TRIES = 20
_BATCH = 500  # directory entries read in one go off the event loop


class FilesystemBlobs:
    """`docray.domain.ports.BlobStore` in a folder. `prepare` before use."""

    def __init__(self, directory: Path) -> None:
        self._objects = directory / "objects"
        self._staging = directory / "staging"

    def prepare(self) -> None:
        """Makes the folders, readable by their owner only."""
        for folder in (self._objects, self._staging):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    async def put_file(self, key: str, source: Path) -> None:
        """Takes over a finished local file under the key, atomically and durably (fsync). A file that a crash left there is replaced."""
        await asyncio.to_thread(self._put, self._path(key), source)

    async def open(self, key: str) -> Path:
        """A local, readable path of the blob. NotFound when there is none."""
        path = self._path(key)
        if not await asyncio.to_thread(path.is_file):
            raise NotFound
        return path

    async def delete(self, key: str) -> None:
        """Removes the blob and folders that are empty then; nothing happens when there is none."""
        await asyncio.to_thread(self._delete, self._path(key))

    def staging(self) -> Path:
        """A folder on the same file system for files on their way in."""
        return self._staging

    async def list_keys(self, prefix: str = "") -> AsyncIterator[tuple[str, float]]:
        """Every key with its age in seconds."""
        walk = self._walk(prefix)
        while batch := await asyncio.to_thread(_take, walk):
            for found in batch:
                yield found

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError("a blob's key is made of letters, digits, '.', '_', '-' and '/', and no part begins with a dot")
        return self._objects / key

    def _put(self, path: Path, source: Path) -> None:
        with _disk():
            _sync(source)
            for _ in range(_TRIES):
                with contextlib.suppress(FileNotFoundError):  # a delete beside us removed a folder while it was empty
                    made = _make_folders(path.parent)
                    source.rename(path)
                    break
            else:
                raise FileNotFoundError(path)
            for folder in {path.parent, source.parent, *made}:
                _sync(folder)

    def _delete(self, path: Path) -> None:
        with _disk():
            path.unlink(missing_ok=True)
            folder = path.parent
            with contextlib.suppress(OSError):  # the first that is not empty ends it
                while folder != self._objects:
                    folder.rmdir()
                    folder = folder.parent

    def _walk(self, prefix: str) -> Iterator[tuple[str, float]]:
        now = time.time()
        for folder, _, names in os.walk(self._objects):
            for name in names:
                path = Path(folder) / name
                key = path.relative_to(self._objects).as_posix()
                if key.startswith(prefix):
                    with contextlib.suppress(FileNotFoundError):  # removed while we walk
                        yield key, max(0.0, now - path.stat().st_mtime)


def _take(walk: Iterator[tuple[str, float]]) -> list[tuple[str, float]]:
    return [found for _, found in zip(range(_BATCH), walk, strict=False)]


def _make_folders(folder: Path) -> list[Path]:
    """Makes a folder and those above it; returns the parents whose entries are new, to be synced."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for one in reversed(missing):
        with contextlib.suppress(FileExistsError):
            one.mkdir(mode=0o700)
    return [one.parent for one in missing]


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _disk() -> Iterator[None]:
    """A full or broken disk is a part of the service that is not available."""
    try:
        yield
    except OSError as error:
        raise Unavailable(retry_after_s=30.0) from error
