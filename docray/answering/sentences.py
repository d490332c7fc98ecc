"""Where sentences end in a text, for every script that marks their ends, and how a long one is cut.

Owns ranges of characters only: every range is without white space at its ends, ranges are in order and never overlap, and nothing but
white space lies between them. Leaves blocks, rows and pages to `docray.answering.evidence`.
"""

import re
from collections.abc import Iterator

MOST_CHARACTERS = 400
"""A longer sentence is cut: a quote is read at a glance, and its boxes are shown on a page."""

STOPS = ".!?…。！？｡؟۔।॥։:"
"""Characters after which a sentence does not go on on the next page."""

_FEWEST_CHARACTERS = 60  # a part that is cut off is no shorter, where there is a choice
_CLOSERS = "\"'”’»)\\]}」』）】"
_OPENERS = " \n\t\"'“‘([«"
_STOP = re.compile(rf"(?:[.!?…؟۔।॥։።]+[{_CLOSERS}]*(?=\s|$))|(?:[。！？｡][{_CLOSERS}]*)|\n\s*\n")
_CUTS = (r"(?<=[;；:：؛])\s*", r"\n", r"(?<=[,，、،])\s*|\s+(?=[–—(])", r"\s+")  # best first
_ABBREVIATIONS = frozenset(
    re.findall(
        r"\S+",
        """
    mr mrs ms dr prof st no nos vs inc corp co ltd llc plc fig figs eq sec ch vol pp ed eds al etc cf approx dept est jan feb mar apr
    jun jul aug sep sept oct nov dec u.s u.k e.g i.e bzw bspw ca nr abs art vgl z.b d.h u.a sr sra ud av bkz örn vb г гг др т.е т.д см
    стр рис
        """,
    )
)


def sentence_ranges(text: str, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """The sentences of `text[start:end]` as ranges; those above `MOST_CHARACTERS` cut at a clause, a line or a word."""
    end = len(text) if end is None else end
    for low, high in _sentences(text, start, end):
        yield from cut_ranges(text, low, high)


def cut_ranges(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The range in parts of at most `MOST_CHARACTERS`: one where it is no longer."""
    while end - start > MOST_CHARACTERS:
        at = _cut_position(text, start, end)
        yield from _trimmed(text, start, at)
        start = at
    yield from _trimmed(text, start, end)


def ends_sentence(before: str, stop: str, following: str) -> bool:
    """Whether a stop between these texts ends its sentence: not after an abbreviation or an initial, and not where lower case goes on."""
    if not stop.startswith("."):
        return True
    if following.lstrip(_OPENERS)[:1].islower():
        return False
    if stop != ".":
        return True  # an ellipsis, or quotation marks and brackets that close with it
    words = before[-24:].split()
    word = words[-1].lstrip(_OPENERS).casefold() if words else ""
    return word not in _ABBREVIATIONS and not (len(word) == 1 and word.isalpha())


def _sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    begin = start
    for stop in _STOP.finditer(text, start, end):
        if stop.group().isspace() or ends_sentence(text[begin : stop.start()], stop.group(), text[stop.end() : min(end, stop.end() + 8)]):
            yield from _trimmed(text, begin, stop.end())
            begin = stop.end()
    yield from _trimmed(text, begin, end)


def _cut_position(text: str, start: int, end: int) -> int:
    """The last good place to cut within the limit, leaving no crumb behind it."""
    low, high = start + _FEWEST_CHARACTERS, min(start + MOST_CHARACTERS, end - _FEWEST_CHARACTERS)
    for cut in _CUTS:
        places = [match.start() for match in re.compile(cut).finditer(text, low, high) if match.start() > low]
        if places:
            return places[-1]
    return high


def _trimmed(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The range without white space at its ends, if anything is left."""
    piece = text[start:end]
    if piece.strip():
        yield start + len(piece) - len(piece.lstrip()), end - (len(piece) - len(piece.rstrip()))
