"""Quotes and where they stand: a range of an evidence's text → per page the exact words and one box per line.

Owns what "verbatim" means (`fold`) and the boxes of a quote. A quote that is not in its passage yields nothing, so no citation is ever
made of it. Leaves choosing quotes to the answerers and drawing boxes to the API.
"""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace

from docray.answering.evidence import Evidence
from docray.domain.documents import Box, Word, line_boxes
from docray.domain.questions import Citation

_HYPHENS = "-\u00ad\u2010\u2011\u2012"  # engines differ in how they report one at a line's end


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """The part of a quote that stands on one page. `text` is on one line."""

    text: str
    page: int
    width: float
    height: float
    boxes: tuple[Box, ...]


def fold(text: str) -> str:
    """Text as quotes are compared: NFKC without white space, hyphens and invisible characters."""
    plain = unicodedata.normalize("NFKC", text)
    return "".join(
        character
        for character in plain
        if not character.isspace() and character not in _HYPHENS and unicodedata.category(character) not in ("Cc", "Cf", "Cs")
    )


def quotes_of(evidence: Evidence, start: int, end: int) -> tuple[Quote, ...]:
    """`evidence.text[start:end]` page by page. Empty when the passage does not hold the quote, or a part of it has no place."""
    quotes = tuple(_parts(evidence, start, end))
    passage = fold(evidence.hit.text)
    whole = fold(evidence.text[start:end])
    sound = whole and whole in passage and all(quote.boxes and fold(quote.text) for quote in quotes)
    return quotes if sound and whole == fold("".join(quote.text for quote in quotes)) else ()


def citations_of(evidence: Evidence, quotes: tuple[Quote, ...], *, index: int, span: tuple[int, int]) -> tuple[Citation, ...]:
    """One citation per page of the quote, all under one index and span."""
    return tuple(
        Citation(
            index=index,
            span=span,
            quote=quote.text,
            chunk_id=evidence.hit.chunk_id,
            document=evidence.hit.document,
            page=quote.page,
            width=quote.width,
            height=quote.height,
            boxes=quote.boxes,
        )
        for quote in quotes
    )


def locate(evidence: Evidence, quote: str) -> tuple[int, int] | None:
    """The range of the evidence's text that equals the quote when folded; None when there is none."""
    wanted = fold(quote)
    folded, where = _folded_positions(evidence.text)
    at = folded.find(wanted) if wanted else -1
    return (where[at], where[at + len(wanted) - 1] + 1) if at >= 0 else None


def _folded_positions(text: str) -> tuple[str, list[int]]:
    """The folded text with, for each of its characters, the position it came from."""
    pieces = [(position, fold(character)) for position, character in enumerate(text)]
    return "".join(piece for _, piece in pieces), [position for position, piece in pieces for _ in piece]


def _parts(evidence: Evidence, start: int, end: int) -> Iterator[Quote]:
    by_page: dict[int, list[int]] = {}
    for position in evidence.words_in(start, end):
        by_page.setdefault(evidence.words[position][0], []).append(position)
    for number, positions in by_page.items():
        page = evidence.pages[number]
        last = positions[-1]
        low, high = max(start, evidence.offsets[positions[0]]), min(end, evidence.offsets[last] + len(evidence.words[last][1].said))
        words = [_visible(evidence, position, start, end) for position in positions]
        boxes = line_boxes(words, page.width, page.height)
        yield Quote(text=evidence.line(low, high), page=number, width=page.width, height=page.height, boxes=boxes)


def _visible(evidence: Evidence, position: int, start: int, end: int) -> Word:
    """The word, its box cut to the characters within the range.

    A "word" of a script without spaces can be a whole line, so the box is cut in proportion to the characters taken, wide ones counting
    twice: along the reading direction, from the right for scripts written from there, from the top for a box that is a column.
    """
    word, offset = evidence.words[position][1], evidence.offsets[position]
    first, last = max(0, start - offset), min(len(word.said), end - offset)
    if (first, last) == (0, len(word.said)):
        return word
    widths = [_advance(character) for character in word.text]
    total = sum(widths) or 1.0
    return replace(word, box=_cut(word, sum(widths[:first]) / total, sum(widths[:last]) / total))


def _cut(word: Word, low: float, high: float) -> Box:
    x0, y0, x1, y1 = word.box
    width, height = x1 - x0, y1 - y0
    if len(word.text) > 1 and height > 1.5 * width:
        return (x0, y0 + low * height, x1, y0 + high * height)
    if any(unicodedata.bidirectional(character) in ("R", "AL") for character in word.text):
        low, high = 1 - high, 1 - low
    return (x0 + low * width, y0, x0 + high * width, y1)


def _advance(character: str) -> float:
    """How wide a character is drawn, roughly: two for wide ones, none for those that combine."""
    if unicodedata.combining(character):
        return 0.0
    return 2.0 if unicodedata.east_asian_width(character) in "WF" else 1.0
