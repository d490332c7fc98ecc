"""PDFium (by pypdfium2) as an engine: the permissive authority, and the second opinion of the other. BSD-3 or Apache-2.0.

Owns opening by PDFium, its characters with loose boxes turned into pieces, its pictures. PDFium knows lines, not paragraphs: a block
ends where the next line stands more than 1.6 line heights below, or above. Leaves structure to `layout`.
"""

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium

from docray.domain.documents import Box, FailureCode
from docray.ingestion.extract.glyphs import pieces_of_line
from docray.ingestion.extract.pieces import Bitmap, Glyph, Piece, RawPage, Unreadable, fitting_scale, union

_LINE_END_HYPHENS = ("\x02", "\ufffe")  # how PDFium marks a hyphen at a line's end; the line break itself it leaves out
_BLOCK_GAP = 1.6  # in line heights: single and one-and-a-half spaced text stays together


class PdfiumDocument:
    """An open PDF. `data` must stay valid until `close`."""

    repaired = False  # PDFium rebuilds silently
    tells_lost_content = False

    def __init__(self, data: memoryview) -> None:
        array = ctypes.c_char * len(data)
        self._held = array.from_buffer_copy(data) if data.readonly else array.from_buffer(data)  # PDFium reads where the bytes lie
        try:
            self._document = pypdfium2.PdfDocument(self._held)
        except pypdfium2.PdfiumError as error:
            encrypted = getattr(error, "err_code", None) in (pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY)
            raise Unreadable(FailureCode.ENCRYPTED if encrypted else FailureCode.DAMAGED) from error
        self.page_count = len(self._document)
        self.title = self._document.get_metadata_value("Title") or ""

    def page(self, index: int) -> RawPage:
        """The page, counted from 0."""
        with self._loaded(index) as page:
            width, height = page.get_size()
            rotation = page.get_rotation()
            displayed = _to_display(page, width, height)
            page.set_rotation(0)  # PDFium orders text as it is displayed, and mixes up lines that then run up or down
            text_page = page.get_textpage()
            try:
                lines = list(_lines(text_page, displayed))
            finally:
                text_page.close()
                page.set_rotation(rotation)
            return RawPage(width, height, rotation, list(_pieces(lines)))

    def render(self, index: int, scale: float, max_pixels: int) -> Bitmap:
        """The page as displayed, annotations included."""
        with self._loaded(index) as page:
            width, height = page.get_size()
            scale = fitting_scale(width, height, scale, max_pixels)
            bitmap = page.render(scale=scale, rev_byteorder=True, prefer_bgrx=False, maybe_alpha=False)
            row = bitmap.width * 3
            raw = memoryview(bitmap.buffer).cast("B")
            samples = bytearray().join(raw[at : at + row] for at in range(0, bitmap.stride * bitmap.height, bitmap.stride))
            return Bitmap(bitmap.width, bitmap.height, scale, samples)

    def shows_images(self) -> bool:
        """Whether any page draws a picture."""
        for index in range(self.page_count):
            with contextlib.suppress(Unreadable), self._loaded(index) as page:
                if any(True for _ in page.get_objects(filter=[pdfium.FPDF_PAGEOBJ_IMAGE], max_depth=3)):
                    return True
        return False

    def ran_out_of_memory(self) -> bool:
        """Never: PDFium aborts the process when an allocation fails."""
        return False

    def close(self) -> None:
        """Gives memory back."""
        self._document.close()

    @contextlib.contextmanager
    def _loaded(self, index: int) -> Iterator[Any]:
        try:
            page = self._document[index]
        except (pypdfium2.PdfiumError, IndexError) as error:
            raise Unreadable(FailureCode.DAMAGED) from error
        try:
            yield page
        finally:
            page.close()


def _to_display(page: Any, width: float, height: float) -> Callable[[float, float, float, float], Box]:
    """PDF coordinates → the displayed page, as one affine map read off PDFium at three points."""
    # pixels per point: fine enough for 1/1000 pt, small enough for PDFium's 32-bit device coordinates on a huge page
    scale = min(1000.0, 1e9 / max(width, height, 1.0))
    size = (round(width * scale), round(height * scale))
    x, y = ctypes.c_int(), ctypes.c_int()

    def at(px: float, py: float) -> tuple[float, float]:
        pdfium.FPDF_PageToDevice(page, 0, 0, *size, 0, px, py, x, y)
        return x.value / scale, y.value / scale

    (ox, oy), (ax, ay), (bx, by) = at(0, 0), at(1000, 0), at(0, 1000)
    a, b, c, d = (ax - ox) / 1000, (ay - oy) / 1000, (bx - ox) / 1000, (by - oy) / 1000

    def displayed(left: float, bottom: float, right: float, top: float) -> Box:
        x0, y0 = ox + a * left + c * bottom, oy + b * left + d * bottom
        x1, y1 = ox + a * right + c * top, oy + b * right + d * top
        return (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))

    return displayed


def _lines(text_page: Any, displayed: Callable[[float, float, float, float], Box]) -> Iterator[list[Glyph]]:
    rect = pdfium.FS_RECTF()
    by_reference, handle = ctypes.byref(rect), text_page.raw
    line: list[Glyph] = []
    for index in range(text_page.count_chars()):
        code = pdfium.FPDFText_GetUnicode(handle, index)
        char = chr(code) if code < 0x110000 else "\ufffd"
        if char in "\r\n":
            yield line
            line = []
            continue
        pdfium.FPDFText_GetLooseCharBox(handle, index, by_reference)
        box = displayed(rect.left, rect.bottom, rect.right, rect.top)
        if char in _LINE_END_HYPHENS:
            yield [*line, ("-", box)]
            line = []
        elif 0xDC00 <= code < 0xE000 and line and "\ud800" <= line[-1][0][-1] < "\udc00":  # PDFium speaks UTF-16: one glyph, two units
            line[-1] = (line[-1][0] + char, line[-1][1])
        else:
            line.append((char, box))
    yield line


def _pieces(lines: list[list[Glyph]]) -> Iterator[Piece]:
    block, below = 0, None
    for number, line in enumerate(lines):
        pieces = list(pieces_of_line(line, number, block))
        if not pieces:
            continue
        box = union(piece.box for piece in pieces)
        height = box[3] - box[1]
        if below is not None and not -0.5 * height <= box[3] - below <= _BLOCK_GAP * height:
            block += 1
            pieces = [piece._replace(block=block) for piece in pieces]
        below = box[3]
        yield from pieces
