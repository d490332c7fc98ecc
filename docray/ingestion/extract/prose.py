"""Lines of prose that layout took for the first rows of a table below them: given back to the paragraph they end.

A paragraph's last line directly above a table looks like a row of one cell. Cut off there, its sentence could not be quoted whole.
"""

import itertools
from collections.abc import Sequence

from docray.domain.documents import BlockKind, Word
from docray.ingestion.extract.words import Group

_MIN_WORDS = 5
_CELL_GAP = 1.0  # of a line's height; wider than any space between words of one sentence


def prose_apart(words: Sequence[Word], groups: Sequence[Group]) -> list[Group]:
    """The groups with leading lines of prose moved out of their tables. A table of prose alone stays as it is."""
    result: list[Group] = []
    for group in groups:
        count = _leading_prose(words, group) if group.kind is BlockKind.TABLE else 0
        if count:
            continued = result and result[-1].kind is BlockKind.PARAGRAPH
            before = result.pop().lines if continued else []
            result.append(Group(BlockKind.PARAGRAPH, 0, [list(itertools.chain(*before, *group.lines[:count]))]))
        result.append(Group(group.kind, group.level, group.lines[count:]) if count else group)
    return result


def _leading_prose(words: Sequence[Word], table: Group) -> int:
    count = 0
    for line in table.lines:
        if not _is_prose([words[index] for index in line]):
            break
        count += 1
    return count if count < len(table.lines) else 0


def _is_prose(line: Sequence[Word]) -> bool:
    """One cell, of several words, most of them letters."""
    if len(line) < _MIN_WORDS or sum(any(c.isalpha() for c in word.text) for word in line) * 4 < len(line) * 3:
        return False
    ordered = sorted(line, key=lambda word: word.box[0])
    return all(after.box[0] - before.box[2] <= _CELL_GAP * (before.box[3] - before.box[1]) for before, after in itertools.pairwise(ordered))
