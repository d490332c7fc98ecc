"""From glyphs in the engine's order to pieces: at white space, where the direction turns, and between characters of scripts without spaces.

Han and kana become a piece per character, so that a quote's box begins and ends where the quote does; closing punctuation stays with
the character before it, so that sentences end between pieces. Runs of other scripts without spaces (Thai, Khmer, …) are cut after
24 characters, before a base letter. Engines give visual order for some right-to-left fonts: a word whose glyphs run to the right is
turned round.
"""

import itertools
import unicodedata
from collections.abc import Iterator, Sequence

from docray.ingestion.extract.normalise import is_ideographic, is_right_to_left, is_unspaced
from docray.ingestion.extract.pieces import Glyph, Piece, union

_LONGEST_RUN = 24  # characters; a Thai line has 60 to 90, and a box of a whole line would mark too much


def pieces_of_line(glyphs: Sequence[Glyph], line: int, block: int) -> Iterator[Piece]:
    """The pieces of one line. White space glyphs separate and are left out."""
    for is_space, run in itertools.groupby(glyphs, key=lambda glyph: not glyph[0].strip()):
        if is_space:
            continue
        parts = list(_parts(list(run)))
        for number, part in enumerate(parts, 1):
            yield Piece("".join(text for text, _ in part), union(box for _, box in part), line, block, joined=number < len(parts))


def _parts(word: list[Glyph]) -> Iterator[list[Glyph]]:
    word = _logical(word)
    if not any(is_unspaced(text[:1]) for text, _ in word):
        yield word
        return
    part: list[Glyph] = []
    for glyph in word:
        if part and _cut_between(part, glyph[0]):
            yield part
            part = []
        part.append(glyph)
    yield part


def _cut_between(part: list[Glyph], text: str) -> bool:
    first, before = text[:1], part[-1][0][-1:]
    if unicodedata.category(first) in ("Pe", "Pf", "Po", "Mn", "Mc", "Lm", "Sk"):  # 。、）」 and marks lean on what stands before
        return False
    if is_ideographic(first) or is_ideographic(before):
        return unicodedata.category(before) not in ("Ps", "Pi")
    return is_unspaced(first) and len(part) >= _LONGEST_RUN


def _logical(word: list[Glyph]) -> list[Glyph]:
    strong = [box for text, box in word if is_right_to_left(text[:1])]
    if len(strong) > 1 and strong[0][0] < strong[-1][0]:
        return word[::-1]
    return word
