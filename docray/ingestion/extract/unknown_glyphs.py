"""Letters for glyphs that a PDF draws without saying what they mean.

A font may lack a Unicode map for some glyphs (Arabic initial and medial forms are the common case). MuPDF then reports U+FFFD; asked
again it reports the glyph's number, and the embedded font's name for that glyph (`uni0644.init`) tells the letter.
Owns that look-up, for pages that need it only. Leaves everything else to the engine.
"""

import importlib
from typing import Any

from docray.ingestion.extract.normalise import UNKNOWN

pymupdf: Any = importlib.import_module("pymupdf")  # it is marked as typed, but has no types

_MAX_FONT_BYTES = 32 << 20
_REPLACEMENT = 0xFFFD


class GlyphNames:
    """Per document: fonts are read once."""

    def __init__(self, document: Any) -> None:
        self._document = document
        self._fonts: dict[int, Any] = {}

    def letters(self, page: Any, blocks: list[Any], flags: int) -> dict[tuple[float, float], str]:
        """Origin of a glyph → its letters, for the U+FFFD among `blocks` (a RAWDICT) that the fonts know."""
        unknown = {char["origin"]: span["font"] for span, char in _characters(blocks) if char["c"] == UNKNOWN}
        if not unknown:
            return {}
        fonts = {_plain(font[3]): font[0] for font in page.get_fonts(full=True)}
        numbered = page.get_textpage(flags=flags | int(pymupdf.TEXT_USE_GID_FOR_UNKNOWN_UNICODE)).extractRAWDICT()["blocks"]
        found: dict[tuple[float, float], str] = {}
        for span, char in _characters(numbered):
            if char["origin"] in unknown:  # parts of a ligature share an origin, where MuPDF gives one U+FFFD
                letter = self._letter(fonts.get(_plain(span["font"])), ord(char["c"][0]))
                found[char["origin"]] = found.get(char["origin"], "") + letter
        return {origin: letters for origin, letters in found.items() if letters}

    def _letter(self, xref: int | None, glyph: int) -> str:
        if xref is None or glyph == _REPLACEMENT:
            return ""
        if xref not in self._fonts:
            self._fonts[xref] = self._open(xref)
        font = self._fonts[xref]
        return _meaning(pymupdf.mupdf.fz_get_glyph_name2(font, glyph)) if font is not None else ""

    def _open(self, xref: int) -> Any:
        buffer = self._document.extract_font(xref)[3]
        if not buffer or len(buffer) > _MAX_FONT_BYTES:
            return None
        try:
            return pymupdf.Font(fontbuffer=buffer).this
        except Exception:  # a font that MuPDF draws from inside the file may still not open by itself: its glyphs stay unknown
            return None


def _characters(blocks: list[Any]) -> Any:
    for block in blocks:
        for line in block.get("lines", ()):
            for span in line["spans"]:
                for char in span["chars"]:
                    yield span, char


def _plain(name: str) -> str:
    """A font's name without subset prefix and style commas, as MuPDF shortens it in text pages."""
    return name.rsplit("+", 1)[-1][:24].strip()


def _meaning(name: str) -> str:
    """Adobe's rule for glyph names: what follows a dot is style, "_" joins letters, `uniXXXX` and `uXXXXX` are code points."""
    letters = []
    for part in name.split(".", 1)[0].split("_"):
        digits = part[3:] if part.startswith("uni") else part[1:] if part.startswith("u") else ""
        try:
            code = int(digits, 16) if len(digits) in (4, 5, 6) else pymupdf.mupdf.fz_unicode_from_glyph_name(part)
        except ValueError:
            code = pymupdf.mupdf.fz_unicode_from_glyph_name(part)
        if not 0x20 < code < 0x110000 or code == _REPLACEMENT:
            return ""
        letters.append(chr(code))
    return "".join(letters)
