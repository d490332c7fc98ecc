"""`Parser`: PDFs to pages and pictures through the sandbox. What the ingest worker and the gateway use.

Owns how often and with what a file is tried, what the end of a child means as a failure code, and limits on what a child sends.
A file is tried with structure first; a crash, a time-out or too much memory there is answered by another child without liteparse, and that
by one with the other engine. All tries share the document's time. Leaves processes to `process`, the meaning of a page to `extract`.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from docray.domain.documents import Box, Extraction, FailureCode, Page
from docray.domain.errors import ExtractionFailed, NotFound, Unavailable
from docray.ingestion.extract.limits import ParserLimits
from docray.ingestion.sandbox import wire
from docray.ingestion.sandbox.process import Abilities, Ending, ParserProcess, ServerDied, Task

Engine = Literal["pymupdf", "pypdfium2"]
OnProgress = Callable[[int, int], Awaitable[None]]
_STRUCTURE_TIME_SHARE = 0.75  # of the document's time for the try with structure; a file that made liteparse hang has the rest
_SENT_PER_TEXT_BYTE = 32  # a page as JSON has 8 to 20 bytes a byte of text
_SENT_FLOOR_BYTES = 64 << 20
_WORTH_ANOTHER_TRY = frozenset({FailureCode.PARSER_CRASH, FailureCode.TIME_LIMIT, FailureCode.MEMORY_LIMIT})
_LEAST_TRY_S = 0.5
_MEMORY_SIGN = 0.5  # a child killed by a signal while it held this share of its limit ran out of memory


@dataclass(frozen=True, slots=True)
class _Try:
    engine: Engine
    structure: bool


class Parser:
    """Reads and draws PDFs. Any number of calls at once; at most `max_children` children at a time."""

    def __init__(
        self, *, engine: Engine = "pymupdf", limits: ParserLimits, require_confinement: bool = False, max_children: int | None = None
    ) -> None:
        self._engine: Engine = engine
        self._limits = limits
        self._require_confinement = require_confinement
        self._slots = asyncio.Semaphore(max_children or os.cpu_count() or 1)
        self._starting = asyncio.Lock()
        self._process: ParserProcess | None = None
        self._abilities: Abilities | None = None
        self._closed = False

    @property
    def abilities(self) -> Abilities | None:
        """What the running server found; None before `start`."""
        return self._abilities

    @property
    def server_pid(self) -> int | None:
        """The parser server's process id while there is one."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Starts the parser server. Unavailable when it does not come up, or when confinement is required and the kernel lacks it."""
        self._closed = False
        await self._running()

    async def close(self) -> None:
        """Ends the server and whatever it is doing."""
        self._closed = True
        process, self._process = self._process, None
        if process is not None:
            await process.close()

    async def extract(self, path: Path, *, on_progress: OnProgress | None = None) -> Extraction:
        """Every page of the PDF at `path`. `on_progress(pages_done, pages_total)` is awaited after each page; another try starts again.

        Raises ExtractionFailed with the code, Unavailable when no parser server can be had.
        """
        async with self._slots:
            await self._running()
            deadline = time.monotonic() + self._limits.time_s
            first: ExtractionFailed | None = None
            for number, attempt in enumerate(self._tries()):
                left_s = deadline - time.monotonic()
                if number and left_s < _LEAST_TRY_S:
                    break
                try:
                    return await self._extract(path, attempt, left_s * _STRUCTURE_TIME_SHARE if attempt.structure else left_s, on_progress)
                except ExtractionFailed as error:
                    if error.failure not in _WORTH_ANOTHER_TRY:
                        raise first or error from None
                    if first is None and not attempt.structure:
                        first = error
                    last = error
            raise first or last

    async def render(self, path: Path, page: int, *, scale: float, highlight: Sequence[Box] = (), time_s: float = 20) -> bytes:
        """Page `page` (from 1) as displayed, as PNG with `scale` pixels a point (fewer where that would pass 40 megapixels).

        `highlight` boxes, in points, are marked; nothing outside them changes. Raises NotFound for a page that does not exist,
        ExtractionFailed with the code.
        """
        async with self._slots:
            await self._running()
            arguments = {"page": page, "scale": scale, "boxes": [list(box) for box in highlight]}
            deadline = time.monotonic() + time_s
            for engine in self._engines():
                try:
                    return await self._render({"engine": engine, **arguments}, path, deadline - time.monotonic())
                except ExtractionFailed as error:
                    if error.failure not in (*_WORTH_ANOTHER_TRY, FailureCode.DAMAGED) or deadline - time.monotonic() < _LEAST_TRY_S:
                        raise
                    last = error
            raise last

    def _engines(self) -> list[Engine]:
        """The configured engine, then the other one if it is installed."""
        other: Engine = "pypdfium2" if self._engine == "pymupdf" else "pymupdf"
        return [self._engine, *([other] if self._abilities is not None and other in self._abilities.engines else [])]

    def _tries(self) -> list[_Try]:
        plain = [_Try(engine, False) for engine in self._engines()]
        return [_Try(self._engine, True), *plain] if self._abilities is not None and self._abilities.structure else plain

    async def _extract(self, path: Path, attempt: _Try, time_s: float, on_progress: OnProgress | None) -> Extraction:
        pages: list[Page] = []
        total = 0
        arguments = {"engine": attempt.engine, "structure": attempt.structure, "limits": asdict(replace(self._limits, time_s=time_s))}
        async with contextlib.aclosing(self._frames("extract", arguments, path, time_s)) as frames:
            async for kind, body in frames:
                if kind == wire.OPENED:
                    total = _count(body, self._limits.max_pages)
                elif kind == wire.PAGE:
                    pages.append(_page(body, len(pages) + 1, total))
                    if on_progress is not None:
                        await on_progress(len(pages), total)
                elif kind == wire.FINISHED and len(pages) == total:
                    return Extraction(pages=tuple(pages), title=_title(body))
        raise ExtractionFailed(FailureCode.PARSER_CRASH)

    async def _render(self, arguments: Mapping[str, Any], path: Path, time_s: float) -> bytes:
        async with contextlib.aclosing(self._frames("render", arguments, path, time_s)) as frames:
            async for kind, body in frames:
                if kind == wire.PICTURE:
                    return body
        raise ExtractionFailed(FailureCode.PARSER_CRASH)

    async def _frames(self, job: str, arguments: Mapping[str, Any], path: Path, time_s: float) -> AsyncGenerator[tuple[bytes, bytes], None]:
        """What the child sends, up to the frame that ends its job. ExtractionFailed for every way in which it can fail."""
        task = Task(job=job, arguments=arguments, time_s=time_s, memory_bytes=self._limits.memory_bytes)
        budget = _SENT_FLOOR_BYTES + _SENT_PER_TEXT_BYTE * self._limits.max_text_bytes
        process = await self._running()
        try:
            async with contextlib.aclosing(process.frames(task, path)) as frames:
                async for frame in frames:
                    if isinstance(frame, Ending):
                        raise ExtractionFailed(meaning_of(frame, self._limits.memory_bytes))
                    kind, body = frame
                    budget -= len(body)
                    if budget < 0:
                        raise ExtractionFailed(FailureCode.TOO_LARGE)
                    if kind == wire.FAILED:
                        raise _failure(body)
                    yield kind, body
        except (wire.WireError, ServerDied) as error:  # a hostile child, or the server fell with it
            raise ExtractionFailed(FailureCode.PARSER_CRASH) from error

    async def _running(self) -> ParserProcess:
        """The server, started again if it is gone."""
        async with self._starting:
            if self._closed:
                raise Unavailable("The PDF parser is shut down.")
            if self._process is not None and self._process.alive:
                return self._process
            if self._process is not None:
                await self._process.close()
            process = ParserProcess(engine=self._engine)
            try:
                abilities = await process.start()
            except ServerDied as error:
                raise Unavailable("The PDF parser does not start. `docray doctor` tells why.") from error
            if self._require_confinement and not (abilities.landlock and abilities.seccomp):
                await process.close()
                raise Unavailable("This kernel cannot confine the PDF parser (Landlock and seccomp are required by configuration).")
            self._process, self._abilities = process, abilities
            return process


def meaning_of(ending: Ending, memory_bytes: int) -> FailureCode:
    """Why a child ended before it had said how its job went."""
    if ending.timed_out or ending.signal == signal.SIGXCPU:
        return FailureCode.TIME_LIMIT
    if ending.signal == signal.SIGKILL or (ending.signal and ending.peak_bytes >= _MEMORY_SIGN * memory_bytes):
        return FailureCode.MEMORY_LIMIT  # SIGKILL that is not ours: the machine ran out
    return FailureCode.PARSER_CRASH


def _failure(body: bytes) -> ExtractionFailed | NotFound:
    message = wire.unpack(body)
    if message.get("missing_page") is True:
        return NotFound("The document has no such page.")
    try:
        return ExtractionFailed(str(message.get("code")))
    except ValueError as error:
        raise wire.WireError("no failure code of ours") from error


def _count(body: bytes, most: int) -> int:
    pages = wire.unpack(body).get("pages")
    if not isinstance(pages, int) or not 1 <= pages <= most:
        raise wire.WireError("not a page count")
    return pages


def _page(body: bytes, number: int, total: int) -> Page:
    page = wire.unpack_page(body)
    if page.number != number or number > total:
        raise wire.WireError("pages out of order")
    return page


def _title(body: bytes) -> str | None:
    title = wire.unpack(body).get("title")
    if title is None:
        return None
    if not isinstance(title, str) or len(title) > 1000 or "\0" in title or any("\ud800" <= char <= "\udfff" for char in title):
        raise wire.WireError("not a title")
    return title
