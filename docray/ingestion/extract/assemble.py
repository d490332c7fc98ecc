"""One page: the authority's words in the best order that keeps them.

Order, headings and tables are liteparse's where it keeps the authority's words (97 % found again, at most 3 % of its own text left
over), tears no more rows of figures than the authority's own order does, and the text is not upside down; else the authority's blocks.
Every word of the authority comes out exactly once. Leaves finding words to the engines, binding layout to them to `alignment`, torn rows
to `mending`, prose drawn into tables to `prose`, text rules to `words`.
"""

import itertools
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from docray.domain.documents import BlockKind, Page, Word
from docray.ingestion.extract.alignment import Aligner
from docray.ingestion.extract.layout import LayoutPage
from docray.ingestion.extract.mending import mended, torn_rows
from docray.ingestion.extract.pieces import RawPage
from docray.ingestion.extract.prose import prose_apart
from docray.ingestion.extract.rows import rows_of_figures, same_line
from docray.ingestion.extract.words import Group, Source, page_words, source_words

_MIN_BOUND = 0.97  # share of the authority's words that layout must have
_MAX_LOST = 0.03  # share of layout's characters that the authority does not have
_SIZE_TOLERANCE = 2.0  # points; a page of another size has other coordinates
_REACH = 15.0  # points from a word to the one it is put beside; within a table's row there is no limit


@dataclass(frozen=True, slots=True)
class Assembled:
    """A page and whether its order is liteparse's."""

    page: Page
    by_layout: bool


def assemble(raw: RawPage, number: int, layout: LayoutPage | None) -> Assembled:
    """The page `number` from what the authority and, where there is one, liteparse made of it."""
    source = source_words(raw)
    upright = not _upside_down(source.words)
    rows = rows_of_figures(source.words) if upright else []
    theirs = _by_layout(source, raw, layout) if layout is not None and source.words and upright else None
    groups, by_layout = _better(source, theirs, rows)
    words, blocks = page_words(source.words, groups)
    page = Page(number=number, width=raw.width, height=raw.height, rotation=raw.rotation, words=words, blocks=blocks)
    return Assembled(page, by_layout)


def _upside_down(words: Sequence[Word]) -> bool:
    """Whether left-to-right text mostly runs to the left as displayed: layout by place would read its words backwards."""
    steps = [
        after.box[0] > before.box[0]
        for before, after in itertools.pairwise(words)
        if before.line == after.line and same_line(before, after) and _left_to_right(before.text) and _left_to_right(after.text)
    ]
    return sum(steps) * 2 < len(steps)


def _left_to_right(text: str) -> bool:
    return any(unicodedata.bidirectional(character) == "L" for character in text)


def _better(source: Source, theirs: list[Group] | None, rows: Sequence[Sequence[int]]) -> tuple[list[Group], bool]:
    """Layout's groups unless they tear more rows than the authority's own; mended either way."""
    torn = 0
    if theirs is not None:
        theirs = mended(source.words, theirs, rows)
        torn = len(torn_rows(source.words, theirs, rows))
        if not torn:
            return theirs, True
    own = mended(source.words, _by_authority(source), rows)
    if theirs is not None and torn <= len(torn_rows(source.words, own, rows)):
        return theirs, True
    return own, False


def _by_authority(source: Source) -> list[Group]:
    members = range(len(source.words))
    return [Group(BlockKind.PARAGRAPH, 0, [list(run)]) for _, run in itertools.groupby(members, key=lambda index: source.blocks[index])]


def _by_layout(source: Source, raw: RawPage, layout: LayoutPage) -> list[Group] | None:
    """Layout's blocks with the authority's words, or None where layout does not keep them."""
    if abs(layout.width - raw.width) > _SIZE_TOLERANCE or abs(layout.height - raw.height) > _SIZE_TOLERANCE:
        return None
    aligner = Aligner(source.words)
    result = aligner.align(layout)
    if result.bound < _MIN_BOUND * aligner.speaking or result.lost > _MAX_LOST * result.characters or not result.bound:
        return None
    groups = [Group(block.kind, block.level, lines) for block, lines in zip(layout.blocks, result.lines, strict=True)]
    return _with_rest(source, prose_apart(source.words, groups))


def _with_rest(source: Source, groups: list[Group]) -> list[Group]:
    """Puts the words that layout left out beside their neighbours; those without one become paragraphs after what precedes them."""
    places = {index: (number, at) for number, group in enumerate(groups) for at, line in enumerate(group.lines) for index in line}
    homeless: dict[int, list[int]] = {}
    last = -1
    for index in range(len(source.words)):
        if index not in places:
            neighbour = _neighbour(source.words, index, places, groups)
            if neighbour is None:
                homeless.setdefault(last, []).append(index)
                continue
            places[index] = places[neighbour]
            _put_beside(source.words, index, neighbour, groups[places[index][0]].lines[places[index][1]])
        last = places[index][0]
    result = _paragraphs(source, homeless.get(-1, []))
    for number, group in enumerate(groups):
        lines = [line for line in group.lines if line]
        if lines:
            result.append(Group(group.kind, group.level, lines))
        result += _paragraphs(source, homeless.get(number, []))
    return result


def _paragraphs(source: Source, members: Sequence[int]) -> list[Group]:
    return [Group(BlockKind.PARAGRAPH, 0, [list(run)]) for _, run in itertools.groupby(members, key=lambda index: source.blocks[index])]


def _put_beside(words: Sequence[Word], index: int, neighbour: int, line: list[int]) -> None:
    same_source = words[index].line == words[neighbour].line
    after = neighbour < index if same_source else words[neighbour].box[0] <= words[index].box[0]
    line.insert(line.index(neighbour) + after, index)


def _neighbour(words: Sequence[Word], index: int, places: dict[int, tuple[int, int]], groups: Sequence[Group]) -> int | None:
    """The word that a left-out word is put beside: before or after it on the engine's line, else the nearest on the visual line."""
    for beside in (index - 1, index + 1):
        if beside in places and words[beside].line == words[index].line:
            return beside
    nearest, distance = None, float("inf")
    for other, (group, _) in places.items():
        if same_line(words[other], words[index]):
            gap = max(words[other].box[0] - words[index].box[2], words[index].box[0] - words[other].box[2])
            if gap < distance and (gap <= _REACH or groups[group].kind is BlockKind.TABLE):
                nearest, distance = other, gap
    return nearest
