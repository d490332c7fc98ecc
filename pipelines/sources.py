"""Where PDFs are: a folder, a manifest, or a bucket. Lists names and sizes, and fetches bytes one file at a time.

Everything goes through Arrow's file systems: `/folder`, `s3://bucket/prefix`, `gs://…`; credentials and endpoints come from the
environment as those services document it (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, …). Names of objects stand in URIs as they are, nothing
in them is escaped. A folder must be there under the same path on every node that reads.
"""

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import fs

from docray.domain.bulk import SourceFile

PIECE_BYTES = 1 << 20


class BadSource(ValueError):
    """A source that cannot be read as what it says it is. The message says where and why."""


def name_of(source: str) -> str:
    """A source in the one form that tells whether two commands mean the same."""
    return source.rstrip("/") if "://" in source else str(Path(source).absolute())


def files_of(source: str, sidecar: Mapping[str, Mapping[str, Any]] | None = None) -> Iterator[SourceFile]:
    """The PDFs of a source, by name. `sidecar` gives title and metadata by name relative to the source.

    BadSource where there is nothing of that name, or a manifest's line is no file.
    """
    if source.lower().endswith((".jsonl", ".ndjson")):
        yield from _listed(source)
        return
    system, root = _system_of(source)
    prefix = source.split("://", 1)[0] + "://" if "://" in source else ""
    for info in sorted(_found(system, root, source), key=lambda each: each.path):
        if info.type == fs.FileType.File and info.path.lower().endswith(".pdf"):
            relative = info.path[len(root) :].lstrip("/")
            yield _file(prefix + info.path, info, (sidecar or {}).get(relative, {}))


def sidecar_of(path: str) -> dict[str, dict[str, Any]]:
    """`{"name": {"title": …, "metadata": {…}}}` from a JSON file. BadSource where it is something else."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadSource(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(value, dict) for value in found.values()):
        raise BadSource(f'{path} must be an object of objects: {{"name.pdf": {{"title": "…", "metadata": {{}}}}}}')
    for name, value in found.items():
        _check_labels(value, f"{path}, {name}")
    return found


async def fetch(uri: str) -> AsyncIterator[bytes]:
    """A file's bytes, piece by piece. FileNotFoundError when it is gone, OSError when the source does not answer."""
    stream = await asyncio.to_thread(_opened, uri)
    try:
        while data := await asyncio.to_thread(stream.read, PIECE_BYTES):
            yield data
    finally:
        await asyncio.to_thread(stream.close)


def _opened(uri: str) -> Any:
    system, path = _system_of(uri)
    return system.open_input_stream(path, compression=None)


def _found(system: fs.FileSystem, root: str, source: str) -> Sequence[fs.FileInfo]:
    """A place's files and folders, or the one file that it is."""
    try:
        there = system.get_file_info(root)
        if there.type == fs.FileType.NotFound:
            raise BadSource(f"There is no {source}.")
        return system.get_file_info(fs.FileSelector(root, recursive=True)) if there.type == fs.FileType.Directory else [there]
    except OSError as error:
        raise BadSource(f"{source} cannot be listed: {error}") from error


def _system_of(source: str) -> tuple[fs.FileSystem, str]:
    """A place's file system, and its path there."""
    scheme, separator, rest = source.partition("://")
    if not separator:
        return fs.LocalFileSystem(), str(Path(source).absolute())
    host, _, path = rest.partition("/")
    try:
        if scheme == "file":
            found: tuple[fs.FileSystem, str] = fs.FileSystem.from_uri(source)
            return found
        system, top = _system(f"{scheme}://{host}")
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise BadSource(f"{source} is no place that can be read: {error}") from error
    return system, f"{top.rstrip('/')}/{path}" if path else top


@functools.cache
def _system(uri: str) -> tuple[fs.FileSystem, str]:
    """The file system of a bucket, whose region is asked for once, and the path of its top."""
    found: tuple[fs.FileSystem, str] = fs.FileSystem.from_uri(uri)
    return found


def _file(uri: str, info: fs.FileInfo, labels: Mapping[str, Any]) -> SourceFile:
    return SourceFile(
        uri=uri, size_bytes=info.size, etag=str(info.mtime_ns or ""), title=labels.get("title"), metadata=labels.get("metadata") or {}
    )


def _listed(manifest: str) -> Iterator[SourceFile]:
    """Lines of `{"uri": …, "title": …, "metadata": {…}}`; relative names are beside the manifest. Each is looked at, none is read."""
    system, path = _system_of(manifest)
    folder = manifest.rsplit("/", 1)[0] if "/" in manifest else "."
    try:
        text = system.open_input_stream(path).read().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadSource(f"{manifest} cannot be read: {error}") from error
    seen: set[str] = set()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        where = f"{manifest}, line {number}"
        try:
            entry = json.loads(line)
            uri = entry["uri"]
        except (ValueError, KeyError, TypeError) as error:
            raise BadSource(f'{where} is not {{"uri": "…"}}.') from error
        if not isinstance(uri, str) or not uri:
            raise BadSource(f"{where}: the uri is no text.")
        _check_labels(entry, where)
        uri = uri if "://" in uri or uri.startswith("/") else f"{folder}/{uri}"
        uri = uri if "://" in uri else str(Path(uri).absolute())
        if uri not in seen:
            seen.add(uri)
            place, name = _system_of(uri)
            try:
                info = place.get_file_info(name)
            except OSError as error:
                raise BadSource(f"{where}: {uri} cannot be looked at: {error}") from error
            yield _file(uri, info, entry)


def _check_labels(entry: Mapping[str, Any], where: str) -> None:
    if not isinstance(entry.get("title"), (str, type(None))):
        raise BadSource(f"{where}: the title is no text.")
    if not isinstance(entry.get("metadata"), (dict, type(None))):
        raise BadSource(f"{where}: the metadata is no object.")
