"""What a PDF becomes: pages of words with boxes, blocks, chunks; and the document that owns them.

Owns the one box convention of docray: `(x0, y0, x1, y1)` in PDF points, origin at the top left of the page **as it is
displayed** (rotation and crop box applied), a word's box as high as its line (font ascent to descent, PDFium's "loose" box).
Leaves reading PDFs to `docray.ingestion`, rows to `docray.stores`.
"""

import enum
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Word:
    """One piece of text as it stands on the page, in reading order.

    `text` is NFKC, never empty, without white space, NUL or lone surrogates. `line` numbers the visual line within the page:
    neighbours with the same number stand on one line and share one box in a quote. `after` is what separates this word from the
    next in the page's text: `" "`, `"\\n"` (new line or table row), `"\\n\\n"` (new block), `""` (nothing: a script without
    spaces, or a word split at the line's end). `hyphen` marks a piece whose last character is a line-end hyphen that the
    text leaves out because the word goes on in the next piece (then `after` is `""`).
    """

    text: str
    box: Box
    line: int
    after: str = " "
    hyphen: bool = False

    @property
    def said(self) -> str:
        """The word as the page's text has it: without a line-end hyphen."""
        return self.text[:-1] if self.hyphen else self.text


class BlockKind(enum.StrEnum):
    """What a run of words is."""

    HEADING = "heading"
    PARAGRAPH = "paragraph"
    LIST_ITEM = "list_item"
    TABLE = "table"


@dataclass(frozen=True, slots=True)
class Block:
    """A run `[start, end)` of a page's words. A page's blocks partition its words, in order.

    `level` is a heading's depth from 1, else 0. `rows` are a table's rows as runs of words: they partition the block.
    """

    kind: BlockKind
    start: int
    end: int
    level: int = 0
    rows: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page as displayed: size in points, words in reading order, blocks over them. `number` counts from 1."""

    number: int
    width: float
    height: float
    rotation: int
    words: tuple[Word, ...] = ()
    blocks: tuple[Block, ...] = ()

    @property
    def text(self) -> str:
        """The page's text, words joined as their `after` says."""
        return text_of(self.words)


@dataclass(frozen=True, slots=True)
class PageSpan:
    """A run `[start, end)` of the words of one page."""

    page: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class PageBoxes:
    """Where something stands on one page: the page's size and boxes in points."""

    page: int
    width: float
    height: float
    boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A passage that is indexed, found and cited as one.

    `n` counts from 0 in reading order. `spans` are the words it is made of, at most one run a page, in order; the chunks of a
    generation partition its words. `text` is exactly those words' text (`text_of`, runs of two pages joined by the last
    word's `after`). `heading_path` are the headings above it, outermost first. `context` is what the index reads before the
    text (title or file name, headings) and nobody sees. `tokens` counts `context` and `text` in the embedder's tokens.
    """

    n: int
    text: str
    spans: tuple[PageSpan, ...]
    pages: tuple[PageBoxes, ...]
    heading_path: tuple[str, ...] = ()
    context: str = ""
    tokens: int = 0

    @property
    def indexed_text(self) -> str:
        """What is embedded: context, then text."""
        return f"{self.context}\n{self.text}" if self.context else self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction:
    """What a parser made of a whole PDF."""

    pages: tuple[Page, ...]
    title: str | None = None


def text_of(words: Iterable[Word]) -> str:
    """Joins words as their `after` says; what follows the last word is left out."""
    pieces: list[str] = []
    for word in words:
        pieces += (word.said, word.after)
    return "".join(pieces[:-1])


def line_boxes(words: Iterable[Word], width: float, height: float) -> tuple[Box, ...]:
    """One box per visual line: the union of its words' boxes, clipped to the page."""
    boxes = []
    for _, group in itertools.groupby(words, key=lambda word: word.line):
        x0s, y0s, x1s, y1s = zip(*(word.box for word in group), strict=True)
        box = (max(0.0, min(x0s)), max(0.0, min(y0s)), min(width, max(x1s)), min(height, max(y1s)))
        if box[0] < box[2] and box[1] < box[3]:
            boxes.append((round(box[0], 2), round(box[1], 2), round(box[2], 2), round(box[3], 2)))
    return tuple(boxes)


class State(enum.StrEnum):
    """Where a generation stands. `docray.domain.jobs.may_follow` holds the transitions."""

    AWAITING_BLOB = "awaiting_blob"  # the row exists, the bytes are still on their way
    QUEUED = "queued"  # bytes are stored, waits for a worker
    PARSED = "parsed"  # pages and chunks are stored
    EMBEDDED = "embedded"  # vectors are computed
    INDEXED = "indexed"  # vectors and keywords are in the index, unpublished
    READY = "ready"  # published: this generation answers
    FAILED = "failed"  # ended with a failure code
    DELETING = "deleting"  # gone for every reader, purge is on its way


class Stage(enum.StrEnum):
    """What the worker is doing, as `progress.stage` tells it."""

    QUEUED = "queued"
    EXTRACT = "extract"
    EMBED = "embed"
    INDEX = "index"
    DONE = "done"


class FailureCode(enum.StrEnum):
    """Why a file could not be read. Codes are part of the API."""

    ENCRYPTED = "encrypted"
    DAMAGED = "damaged"
    NOT_A_PDF = "not_a_pdf"
    NO_TEXT = "no_text"
    TOO_MANY_PAGES = "too_many_pages"
    TOO_LARGE = "too_large"
    TIME_LIMIT = "time_limit"
    MEMORY_LIMIT = "memory_limit"
    PARSER_CRASH = "parser_crash"
    DEPENDENCY = "dependency"


FAILURE_MESSAGES: Mapping[FailureCode, str] = {
    FailureCode.ENCRYPTED: "The file is protected by a password. Remove the password and upload it again.",
    FailureCode.DAMAGED: "The file is damaged and could not be read. Open and save it again in a PDF program, then upload it.",
    FailureCode.NOT_A_PDF: "The file is not a PDF.",
    FailureCode.NO_TEXT: "No text was found: the pages are pictures, such as a scan. Run text recognition (OCR) on it first.",
    FailureCode.TOO_MANY_PAGES: "The file has more pages than this service accepts. Split it and upload the parts.",
    FailureCode.TOO_LARGE: "The file unpacks to more text than this service accepts. Split it and upload the parts.",
    FailureCode.TIME_LIMIT: "Reading the file took longer than this service allows. Split it or simplify it, then upload it again.",
    FailureCode.MEMORY_LIMIT: "Reading the file took more memory than this service allows. Split it or simplify it, then upload it again.",
    FailureCode.PARSER_CRASH: "The file made the PDF reader crash. Open and save it again in a PDF program, then upload it.",
    FailureCode.DEPENDENCY: "A part of the service was not available while the file was processed. Try again later.",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a generation failed, in words for the one who uploaded it."""

    code: FailureCode
    message: str
    retryable: bool = False

    @classmethod
    def of(cls, code: FailureCode) -> "Failure":
        """The failure with its standard sentence; only a missing dependency is worth another try."""
        return cls(code, FAILURE_MESSAGES[code], retryable=code is FailureCode.DEPENDENCY)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the worker is. `pages_total` is None until known."""

    stage: Stage = Stage.QUEUED
    pages_done: int = 0
    pages_total: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """A newer generation in work, or failed, beside the live one."""

    generation: int
    state: State
    progress: Progress
    failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A document as callers see it. `version` grows with every visible change: it is the ETag and the event id."""

    id: UUID
    collection_ids: tuple[UUID, ...]
    filename: str
    title: str | None
    sha256: str
    size_bytes: int
    page_count: int | None
    chunk_count: int | None
    generation: int
    state: State
    progress: Progress
    failure: Failure | None
    replacement: Replacement | None
    metadata: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime
    ready_at: datetime | None
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """A named set of documents of one tenant."""

    id: UUID
    name: str
    description: str | None
    metadata: Mapping[str, Any]
    document_count: int
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """A document in a collection, with attributes of the pair."""

    collection_id: UUID
    document_id: UUID
    attributes: Mapping[str, Any] = field(default_factory=dict)
    added_at: datetime


def words_of(pages: Mapping[int, Page], spans: Iterable[PageSpan]) -> Iterator[tuple[int, Word]]:
    """The words of spans with the number of the page they stand on, in order."""
    for span in spans:
        for word in pages[span.page].words[span.start : span.end]:
            yield span.page, word
