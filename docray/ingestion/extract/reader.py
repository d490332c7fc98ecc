"""The whole document: opens it, reads page after page, asks the second engine where the first fails, keeps the limits.

Owns which failure a file ends with. A page that neither engine reads fails the whole file: a report that misses pages in silence would
answer wrongly. Leaves single pages to the engines and `assemble`, time and memory to the sandbox.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from docray.domain.documents import FailureCode, Page
from docray.ingestion.extract.assemble import assemble
from docray.ingestion.extract.layout import Layout
from docray.ingestion.extract.limits import ParserLimits
from docray.ingestion.extract.normalise import clean
from docray.ingestion.extract.pieces import OpenDocument, RawPage, Unreadable

Engine = Literal["pymupdf", "pypdfium2"]
_HEADER_BYTES = 1024
_MIN_CHARACTERS = 4  # letters and digits in the whole document; less is a stray mark on a scan, not text
_MAX_TITLE_CHARACTERS = 300
# A tree that claims more pages than the file has bytes, and more than a million, is a lie, whatever an engine makes of it.
_LARGEST_CLAIM = 1_000_000
_COUNT = re.compile(rb"/Count\s+(\d{7,20})\b")
# Of the time limit; pages after that get no structure. The engines alone are twice as fast: 5,000 pages of filings then fit into 120 s.
_LAYOUT_TIME_SHARE = 0.5
_LAYOUT_COPIES = 8  # liteparse holds copies of the file: no structure where eight of them pass the memory limit


@dataclass(frozen=True, slots=True)
class Opened:
    """The document could be opened; pages follow."""

    page_count: int


@dataclass(frozen=True, slots=True)
class ReadPage:
    """One page, and whether its order is liteparse's."""

    page: Page
    by_layout: bool


@dataclass(frozen=True, slots=True)
class Finished:
    """Every page was read."""

    title: str | None


OpenWith = Callable[[Engine, memoryview], OpenDocument]
Event = Opened | ReadPage | Finished


class Reader:
    """Reads one file. `open_with` opens data with an engine by name; `structure` says whether liteparse is asked."""

    def __init__(self, engine: Engine, limits: ParserLimits, open_with: OpenWith, structure: bool) -> None:
        self._engine: Engine = engine
        self._limits = limits
        self._open_with = open_with
        self._structure = structure

    def read(self, data: memoryview) -> Iterator[Event]:
        """Events in order; `Unreadable` with the failure's code."""
        check_claims(data)
        documents = _Documents(self._engine, data, self._open_with)
        if documents.page_count > self._limits.max_pages:
            raise Unreadable(FailureCode.TOO_MANY_PAGES)
        yield Opened(documents.page_count)
        yield from self._within_limits(self._pages(documents, data), documents)
        title = " ".join(filter(None, map(clean, documents.title.split())))[:_MAX_TITLE_CHARACTERS]
        yield Finished(title or None)

    def _pages(self, documents: "_Documents", data: memoryview) -> Iterator[ReadPage]:
        """Every page. Pages are held back until there is text: a repaired file without any is read again by the other engine."""
        held: list[ReadPage] = []
        characters = 0
        for read in self._read_all(documents, data):
            if characters >= _MIN_CHARACTERS:
                yield read
                continue
            held.append(read)
            characters += _characters(read.page)
            if characters >= _MIN_CHARACTERS:
                yield from held
        if characters < _MIN_CHARACTERS:
            if documents.turn_to_second_opinion():
                held = list(self._read_all(documents, data))
            yield from held

    def _read_all(self, documents: "_Documents", data: memoryview) -> Iterator[ReadPage]:
        small = len(data) * _LAYOUT_COPIES <= self._limits.memory_bytes
        layout = Layout(bytes(data) if self._structure and small else None, self._limits.time_s * _LAYOUT_TIME_SHARE)
        for index in range(documents.page_count):
            assembled = assemble(documents.page(index), index + 1, layout.page(index + 1))
            yield ReadPage(assembled.page, assembled.by_layout)

    def _within_limits(self, pages: Iterator[ReadPage], documents: "_Documents") -> Iterator[ReadPage]:
        text_bytes = characters = 0
        for read in pages:
            text_bytes += len(read.page.text.encode())
            characters += _characters(read.page)
            if text_bytes > self._limits.max_text_bytes:
                raise Unreadable(FailureCode.TOO_LARGE)
            yield read
        if documents.ran_out_of_memory():
            raise Unreadable(FailureCode.MEMORY_LIMIT)
        if characters < _MIN_CHARACTERS:
            raise Unreadable(documents.why_no_text())


class _Documents:
    """The file as the first engine sees it, and as the second does once it is asked."""

    def __init__(self, engine: Engine, data: memoryview, open_with: OpenWith) -> None:
        self._data = data
        self._open_with = open_with
        self._second: OpenDocument | None = None
        self._second_engine: Engine | None = "pypdfium2" if engine == "pymupdf" else "pymupdf"
        self._first = self._open(engine)
        self.page_count = self._first.page_count
        self.title = self._first.title

    def _open(self, engine: Engine) -> OpenDocument:
        """By the first engine, or by the second where the first cannot open the file or sees no pages."""
        try:
            return self._with_pages(self._open_with(engine, self._data))
        except Unreadable as error:
            if error.code is not FailureCode.DAMAGED:
                raise
            opened = self._second_document()
            if opened is None:
                raise
            self._second, self._second_engine = None, None
            return opened

    def _with_pages(self, document: OpenDocument) -> OpenDocument:
        if document.page_count < 1:
            raise Unreadable(FailureCode.DAMAGED)
        return document

    def _second_document(self) -> OpenDocument | None:
        if self._second is None and self._second_engine is not None:
            engine, self._second_engine = self._second_engine, None
            try:
                self._second = self._with_pages(self._open_with(engine, self._data))
            except Unreadable as error:
                if error.code is FailureCode.ENCRYPTED:
                    raise
            except ImportError:  # an installation with one engine has no second opinion
                return None
        return self._second

    def page(self, index: int) -> RawPage:
        """The page by the first engine; by the second where the first fails, or cannot say whether an empty page lost its content."""
        try:
            page = self._first.page(index)
        except Unreadable as error:
            second = self._agreeing_second() if error.code is FailureCode.DAMAGED else None
            page = second.page(index) if second is not None else RawPage(0, 0, 0, ())
            if second is None or not (page.pieces or second.tells_lost_content):
                raise
            return page
        if page.pieces or self._first.tells_lost_content:
            return page
        second = self._agreeing_second()
        return page if second is None else second.page(index)

    def _agreeing_second(self) -> OpenDocument | None:
        second = self._second_document()
        return second if second is not None and second.page_count == self.page_count else None

    def turn_to_second_opinion(self) -> bool:
        """Whether the file was damaged and the second engine opens it: then it is the first from here on."""
        second = self._agreeing_second() if self._first.repaired else None
        if second is None:
            return False
        self._first = second
        return True

    def ran_out_of_memory(self) -> bool:
        """Whether an engine left something out for want of memory."""
        return self._first.ran_out_of_memory()

    def why_no_text(self) -> FailureCode:
        """Pictures only, or a file whose text was lost with the damage."""
        return FailureCode.DAMAGED if self._first.repaired and not self._first.shows_images() else FailureCode.NO_TEXT


def check_claims(data: memoryview) -> None:
    """Refuses what is no PDF and what claims an impossible number of pages."""
    if b"%PDF-" not in bytes(data[:_HEADER_BYTES]):
        raise Unreadable(FailureCode.NOT_A_PDF)
    if max((int(found[1]) for found in _COUNT.finditer(data)), default=0) > max(_LARGEST_CLAIM, len(data)):
        raise Unreadable(FailureCode.DAMAGED)


def _characters(page: Page) -> int:
    return sum(sum(map(str.isalnum, word.text)) for word in page.words)
