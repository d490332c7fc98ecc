"""PyMuPDF as an engine: the default authority for words and boxes. AGPL-3.0 or commercial.

Owns opening by MuPDF, its text page turned into pieces, its pictures. Leaves the line height of fonts that are not embedded to `base14`,
glyphs without a letter to `unknown_glyphs`, structure to `layout`.
"""

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

from docray.domain.documents import FailureCode
from docray.ingestion.extract.base14 import loose_box
from docray.ingestion.extract.glyphs import pieces_of_line
from docray.ingestion.extract.normalise import UNKNOWN, has_unspaced
from docray.ingestion.extract.pieces import Bitmap, Glyph, Piece, RawPage, Unreadable, fitting_scale
from docray.ingestion.extract.unknown_glyphs import GlyphNames

pymupdf: Any = importlib.import_module("pymupdf")  # it is marked as typed, but has no types

_FLAGS = int(pymupdf.TEXT_PRESERVE_LIGATURES | pymupdf.TEXT_PRESERVE_WHITESPACE | pymupdf.TEXT_MEDIABOX_CLIP)


class PyMuPdfDocument:
    """An open PDF. `data` must stay valid until `close`."""

    tells_lost_content = True

    def __init__(self, data: memoryview) -> None:
        pymupdf.TOOLS.mupdf_display_errors(False)
        pymupdf.TOOLS.mupdf_display_warnings(False)
        pymupdf.TOOLS.reset_mupdf_warnings()
        with _translated():
            self._document = pymupdf.open(stream=data, filetype="pdf")
            if self._document.needs_pass:
                raise Unreadable(FailureCode.ENCRYPTED)
            if not self._document.is_pdf:  # MuPDF sniffs: a file with a PDF header may open as something else
                raise Unreadable(FailureCode.DAMAGED)
            self.page_count = self._document.page_count
        self.repaired = bool(self._document.is_repaired)
        self.title = str((self._document.metadata or {}).get("title") or "")
        self._out_of_memory = False
        self._names = GlyphNames(self._document)

    def page(self, index: int) -> RawPage:
        """The page, counted from 0."""
        with _translated():
            self._keep_warnings()
            page = self._document[index]
            text_page = page.get_textpage(flags=_FLAGS)
            words = text_page.extractWORDS()
            if self._lost_content(page):
                raise Unreadable(FailureCode.DAMAGED)
            if any(UNKNOWN in word[4] or has_unspaced(word[4]) for word in words):
                pieces = list(self._pieces_by_glyph(page, text_page))
            else:
                pieces = list(_pieces_by_word(words, text_page))
            box = page.rect
            return RawPage(box.width, box.height, page.rotation, _displayed(pieces, page))

    def _keep_warnings(self) -> None:
        """Warnings are MuPDF's only word about streams it passed over; they pile up for the whole process."""
        self._out_of_memory = self.ran_out_of_memory()
        pymupdf.TOOLS.reset_mupdf_warnings()

    def _lost_content(self, page: Any) -> bool:
        """Whether the page or its content is missing or ends too early: MuPDF then shows less of it, or an empty page."""
        kind, value = self._document.xref_get_key(page.xref, "Contents")
        if kind == "null":
            return bool(self._document.xref_object(page.xref) == "null")
        parts = page.get_contents()
        if not all(map(self._document.xref_is_stream, parts)) or (not parts and value.strip("[] ")):
            return True
        if not self.repaired:
            return False
        warnings = pymupdf.TOOLS.mupdf_warnings(reset=False)
        return any(sign in warnings for sign in ("premature end", "zlib error")) or not page.read_contents().strip()

    def _pieces_by_glyph(self, page: Any, text_page: Any) -> Iterator[Piece]:
        blocks = text_page.extractRAWDICT()["blocks"]
        letters = self._names.letters(page, blocks, _FLAGS)
        number = 0
        for block_number, block in enumerate(blocks):
            for line in block.get("lines", ()):
                yield from pieces_of_line(list(_glyphs(line, letters)), number, block_number)
                number += 1

    def render(self, index: int, scale: float, max_pixels: int) -> Bitmap:
        """The page as displayed, annotations included."""
        with _translated():
            page = self._document[index]
            scale = fitting_scale(page.rect.width, page.rect.height, scale, max_pixels)
            pixels = page.get_pixmap(matrix=pymupdf.Matrix(scale, scale), colorspace=pymupdf.csRGB, alpha=False)
            row = pixels.width * 3
            samples = bytearray(pixels.samples_mv)
            if pixels.stride != row:
                samples = bytearray().join(samples[at : at + row] for at in range(0, len(samples), pixels.stride))
            return Bitmap(pixels.width, pixels.height, scale, samples)

    def shows_images(self) -> bool:
        """Whether any page's resources name a picture."""
        with contextlib.suppress(RuntimeError, ValueError):
            return any(self._document.get_page_images(number) for number in range(self.page_count))
        return False

    def ran_out_of_memory(self) -> bool:
        """MuPDF goes on after a stream that does not fit, with a warning."""
        return self._out_of_memory or _is_about_memory(pymupdf.TOOLS.mupdf_warnings(reset=False))

    def close(self) -> None:
        """Gives memory back."""
        self._document.close()


def _pieces_by_word(words: list[Any], text_page: Any) -> Iterator[Piece]:
    blocks = {block["number"]: block["lines"] for block in text_page.extractDICT()["blocks"] if "lines" in block}
    numbers: dict[tuple[int, int], int] = {}
    for at, (x0, y0, x1, y1, text, block, line, _) in enumerate(words):
        found = blocks[block][line]
        following = words[at + 1] if at + 1 < len(words) else None
        joined = following is not None and following[5:7] == (block, line) and abs(following[0] - x1) < 0.01
        span = _span_at(found["spans"], (x0 + x1) / 2)
        box = loose_box((x0, y0, x1, y1), span["font"], span["ascender"], span["descender"], found["dir"])
        yield Piece(text, box, numbers.setdefault((block, line), len(numbers)), block, joined)


def _span_at(spans: list[Any], middle: float) -> Any:
    """The span that the middle of a word stands in."""
    if len(spans) == 1:
        return spans[0]
    return next((span for span in spans if span["bbox"][0] <= middle <= span["bbox"][2]), spans[0])


def _glyphs(line: Any, letters: dict[tuple[float, float], str]) -> Iterator[Glyph]:
    for span in line["spans"]:
        for char in span["chars"]:
            text = char["c"]
            if text == UNKNOWN and char["origin"] in letters:
                text, letters[char["origin"]] = letters[char["origin"]], ""
                if not text:
                    continue
            yield text, loose_box(char["bbox"], span["font"], span["ascender"], span["descender"], line["dir"])


def _displayed(pieces: list[Piece], page: Any) -> list[Piece]:
    """MuPDF gives text before rotation: turn the boxes as the page is turned."""
    if page.rotation == 0:
        return pieces
    turn = page.rotation_matrix
    return [piece._replace(box=tuple(pymupdf.Rect(piece.box) * turn)) for piece in pieces]


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Whatever MuPDF raises becomes `Unreadable`."""
    try:
        yield
    except (Unreadable, MemoryError):
        raise
    except Exception as error:  # MuPDF raises RuntimeError, ValueError, IndexError and classes of its own
        raise Unreadable(FailureCode.MEMORY_LIMIT if _is_about_memory(str(error)) else FailureCode.DAMAGED) from error


def _is_about_memory(message: str) -> bool:
    return any(sign in message for sign in ("malloc", "calloc", "realloc", "out of memory", "bad_alloc"))
