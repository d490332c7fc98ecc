"""Binds the text of layout blocks to the words of the authority.

Layout gives text without word positions, in an order of its own; the authority gives words. Both are folded to the same stream of
characters (no spaces, hyphens, Markdown signs), and the words are found again along it: the next word in the authority's order first,
else the word whose place fits and which goes on longest. Owns that search and what was lost on either side. Leaves the verdict, and
words that nothing bound, to `assemble`.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from docray.domain.documents import Box, Word
from docray.ingestion.extract.layout import LayoutPage

# Signs that Markdown adds or escapes, hyphens, which engines report differently at line ends, and quotation marks, which liteparse plains.
_DASHES = frozenset("-\u00ad\u2010\u2011\u2012\u2013\u2014\u2212")
_UNFOLDED = frozenset("*_`~\\|#<>\ufffd") | _DASHES
_PLAIN = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201b": "'", "\u201c": '"', "\u201d": '"', "\u201e": '"', "\u2032": "'"})
_LOOKAHEAD = 4  # words that must follow on for a place to be surely right
_MARGIN = 3.0  # points that a word's middle may lie outside the box of its cell or block


def fold(text: str) -> str:
    """Text as it is compared: NFKC, without white space, control characters, hyphens and Markdown's signs."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.translate(_PLAIN))
    elif text.isalnum():
        return text
    if text and all(char in _DASHES for char in text):  # a dash alone is a cell that says "nothing": it has its place in the row
        return "-"
    return "".join(char for char in text if char not in _UNFOLDED and not char.isspace() and char.isprintable())


@dataclass(slots=True)
class Alignment:
    """`lines[block][line]` are the words (indices) of each layout line, in its order; `lost` counts characters nobody claimed."""

    lines: list[list[list[int]]] = field(default_factory=list)
    bound: int = 0
    lost: int = 0
    characters: int = 0


class Aligner:
    """One page."""

    def __init__(self, words: Sequence[Word]) -> None:
        self._words = words
        self._folded = [fold(word.text) for word in words]
        self._free = [bool(text) for text in self._folded]
        self._by_start: dict[str, list[int]] = defaultdict(list)
        for index, text in enumerate(self._folded):
            if text:
                self._by_start[text[:2]].append(index)
        self._next = self._following(-1)
        self.speaking = sum(self._free)  # words that have something to compare

    def align(self, layout: LayoutPage) -> Alignment:
        """Walks the blocks in order and claims words; each word is claimed at most once."""
        result = Alignment()
        for block in layout.blocks:
            lines = []
            for line in block.lines:
                claimed: list[int] = []
                for text, box in line.cells or ((line.text, line.box),):
                    self._claim(text, box or block.box, claimed, result)
                lines.append(claimed)
            result.lines.append(lines)
        return result

    def _claim(self, text: str, box: Box | None, claimed: list[int], result: Alignment) -> None:
        tokens = [token for token in map(fold, text.split()) if token]
        stream = "".join(tokens)
        ends, at = set(), 0
        for token in tokens:
            at += len(token)
            ends.add(at)
        result.characters += len(stream)
        at = 0
        while at < len(stream):
            index = self._find(stream, at, ends, box)
            if index is None:
                result.lost += 1
                at += 1
                continue
            claimed.append(index)
            self._free[index] = False
            self._next = self._following(index)
            result.bound += 1
            at += len(self._folded[index])

    def _find(self, stream: str, at: int, ends: set[int], box: Box | None) -> int | None:
        expected = self._next
        if expected is not None and self._goes_on(expected, stream, at, ends, box):
            return expected
        best, best_score = None, (False, -1, False)
        for start in (stream[at : at + 2], stream[at]):
            for index in self._by_start.get(start, ()):
                if not self._fits(index, stream, at):
                    continue
                score = (self._within(index, box), self._run(index, stream, at), at + len(self._folded[index]) in ends)
                if score > best_score:
                    best, best_score = index, score
            if len(stream) - at < 2:
                break
        if best is not None and not best_score[2] and best_score[1] < 2 and len(self._folded[best]) < 3:
            return None  # "a" found at the start of "and" is no find
        return best

    def _goes_on(self, index: int, stream: str, at: int, ends: set[int], box: Box | None) -> bool:
        """Whether the authority's next word stands here: it fits, in its place, to the end of a token or with its successor."""
        if not self._fits(index, stream, at) or not self._within(index, box):
            return False
        return at + len(self._folded[index]) in ends or self._run(index, stream, at) > 1

    def _fits(self, index: int, stream: str, at: int) -> bool:
        return self._free[index] and stream.startswith(self._folded[index], at)

    def _within(self, index: int, box: Box | None) -> bool:
        if box is None:
            return True
        x0, y0, x1, y1 = self._words[index].box
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        return box[0] - _MARGIN <= x <= box[2] + _MARGIN and box[1] - _MARGIN <= y <= box[3] + _MARGIN

    def _run(self, index: int | None, stream: str, at: int) -> int:
        """How many words, from this one on in the authority's order, the stream goes on with."""
        run = 0
        while index is not None and run < _LOOKAHEAD and self._fits(index, stream, at):
            at += len(self._folded[index])
            run += 1
            index = self._following(index)
        return run

    def _following(self, index: int) -> int | None:
        for following in range(index + 1, len(self._free)):
            if self._free[following]:
                return following
        return None
