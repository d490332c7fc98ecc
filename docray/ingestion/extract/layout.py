"""Reading order, headings and tables as liteparse sees them: blocks of text per page. Apache-2.0, rules only, no weights.

Owns the call of liteparse with OCR and every look outside switched off. liteparse is young: whatever it raises ends its use for this
document, never the document. Leaves judging its pages to `assemble`, binding its text to words to `alignment`.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from docray.domain.documents import BlockKind, Box

_BATCH_PAGES = 40  # liteparse holds one batch in memory; 10, 50 and 200 are equally fast (98 pages/s on a 61-page filing)
_KINDS = {
    "heading": BlockKind.HEADING,
    "paragraph": BlockKind.PARAGRAPH,
    "list_item": BlockKind.LIST_ITEM,
    "code": BlockKind.PARAGRAPH,
    "table": BlockKind.TABLE,
    "grid_fallback": BlockKind.TABLE,  # a table that liteparse could not cut into columns: its lines, verbatim
}


@dataclass(frozen=True, slots=True)
class LayoutLine:
    """A run of text in reading order: a table's row, or a whole block. `box` is None where liteparse gives none."""

    text: str
    box: Box | None
    cells: tuple[tuple[str, Box | None], ...] = ()


@dataclass(frozen=True, slots=True)
class LayoutBlock:
    """One block: a table has a line per row, every other kind has one line."""

    kind: BlockKind
    level: int
    lines: tuple[LayoutLine, ...]
    box: Box | None


@dataclass(frozen=True, slots=True)
class LayoutPage:
    """A page's blocks in reading order, in the coordinates of the displayed page of that size."""

    width: float
    height: float
    blocks: tuple[LayoutBlock, ...]


class Layout:
    """liteparse over one document, page after page. `page` must be asked in order."""

    def __init__(self, data: bytes | None, time_s: float) -> None:
        """`data` None: no structure. From `time_s` seconds after now on, the remaining pages get none either."""
        self._pages: dict[int, LayoutPage] = {}
        self._until = time.monotonic() + time_s
        self._session = _open(data) if data is not None else None

    def page(self, number: int) -> LayoutPage | None:
        """Page `number` (from 1), or None where there is no structure to be had."""
        while self._session is not None and number not in self._pages and self._next_batch():
            pass
        return self._pages.pop(number, None)

    def _next_batch(self) -> bool:
        try:
            batch = self._session.next_batch()  # type: ignore[union-attr]  # checked by the only caller
            for page in batch.result.pages if batch is not None else ():
                self._pages[page.page_num] = LayoutPage(page.width, page.height, tuple(_blocks(page.blocks or ())))
        except BaseException as error:  # a Rust panic arrives as a BaseException
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
            batch = None
        if batch is None or time.monotonic() > self._until:
            self._session = None
        return batch is not None


def _open(data: bytes) -> Any:
    # The compiled class, not its Python wrapper: the wrapper copies every text item, which costs a quarter of the speed.
    from liteparse._liteparse import LiteParse

    try:
        parser = LiteParse(
            ocr_enabled=False,  # on by default, and then fetches tessdata from the web
            output_format="markdown",
            extract_blocks=True,
            keep_headers_footers=True,
            extract_links=False,
            image_mode="off",
            continue_on_page_error=True,
            num_workers=1,
            quiet=True,
        )
        return parser.open_batch_session_bytes(data, _BATCH_PAGES)
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        return None


def _blocks(blocks: Any) -> Iterator[LayoutBlock]:
    for block in blocks:
        kind = _KINDS.get(block.kind)
        if kind is None:  # rules and figures hold no text
            continue
        lines = tuple(_lines(block))
        if lines:
            yield LayoutBlock(kind, (block.level or 1) if kind is BlockKind.HEADING else 0, lines, _box(block.bbox))


def _lines(block: Any) -> Iterator[LayoutLine]:
    if block.kind == "table":
        for row in ([block.header] if block.header else []) + list(block.rows or ()):
            cells = tuple((cell.text, _box(cell.bbox)) for cell in row if cell.text)
            yield LayoutLine("", None, cells)
    elif block.kind == "grid_fallback":
        yield from (LayoutLine(line, None) for line in block.lines or ())
    else:
        text = block.text or " ".join(block.lines or ())
        yield LayoutLine(f"{block.marker or ''} {text}" if block.kind == "list_item" else text, _box(block.bbox))


def _box(rect: Any) -> Box | None:
    return None if rect is None else (rect.x, rect.y, rect.x + rect.width, rect.y + rect.height)
