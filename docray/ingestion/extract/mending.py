"""Puts torn rows of figures together again.

A table's row that runs two visual lines together, column by column, is cut into those lines.
Everything from the first to the last block that shares a row becomes one table of visual lines, provided that at least half of the
lines there are rows of figures: in prose of two columns a line may look like one by chance. A paragraph that is mostly rows of figures
becomes a table in the same way, so that its rows stay lines. Leaves recognising rows to `rows`.
"""

import itertools
from collections.abc import Mapping, Sequence

from docray.domain.documents import BlockKind, Word
from docray.ingestion.extract.rows import same_line, visual_rows
from docray.ingestion.extract.words import Group

Rows = Sequence[Sequence[int]]


def torn_rows(words: Sequence[Word], groups: Sequence[Group], rows: Rows) -> list[list[tuple[int, int]]]:
    """For each row of figures whose words are not all on one line of the order: where they are (group, line)."""
    places = _places(words, groups)
    found = ([places[index] for index in row] for row in rows)
    return [row for row in found if len(set(row)) > 1]


def mended(words: Sequence[Word], groups: list[Group], rows: Rows) -> list[Group]:
    """The groups, with torn rows whole again where that is a table."""
    if not rows:
        return groups
    groups = _cut(words, groups, rows)
    spans = [(min(row)[0], max(row)[0]) for row in torn_rows(words, groups, rows)]
    spans += [(number, number) for number, group in enumerate(groups) if group.kind is not BlockKind.TABLE]
    for first, last in reversed(_merged(sorted(spans))):
        table = _table(words, [index for group in groups[first : last + 1] for line in group.lines for index in line], rows)
        if table is not None:
            groups = [*groups[:first], table, *groups[last + 1 :]]
    return groups


def _cut(words: Sequence[Word], groups: Sequence[Group], rows: Rows) -> list[Group]:
    """Table rows within which a row of figures is not one run become a row per visual line."""
    row_of = {index: number for number, row in enumerate(rows) for index in row}
    result = []
    for group in groups:
        if group.kind is BlockKind.TABLE and any(_is_mixed(line, row_of) for line in group.lines):
            lines: list[list[int]] = []
            for line in group.lines:
                lines += _visual_lines(words, line) if _is_mixed(line, row_of) else [line]
            group = Group(group.kind, group.level, lines)
        result.append(group)
    return result


def _is_mixed(line: Sequence[int], row_of: Mapping[int, int]) -> bool:
    """Whether any row of figures is left and entered again within the line."""
    runs = [row for row, _ in itertools.groupby(row_of.get(index, -1) for index in line)]
    figures = [row for row in runs if row >= 0]
    return len(figures) != len(set(figures)) or len(set(figures)) > 1


def _visual_lines(words: Sequence[Word], members: Sequence[int]) -> list[list[int]]:
    return [[members[at] for at in row] for row in visual_rows([words[index] for index in members])]


def _table(words: Sequence[Word], members: list[int], rows: Rows) -> Group | None:
    inside = set(members)
    figures = sum(inside.issuperset(row) for row in rows)
    if figures < 2:
        return None
    lines = _visual_lines(words, members)
    if 2 * figures < len(lines):
        return None
    return Group(BlockKind.TABLE, 0, lines)


def _places(words: Sequence[Word], groups: Sequence[Group]) -> dict[int, tuple[int, int]]:
    """Word → (group, line): a table's rows are lines, in other groups each visual line is one."""
    places: dict[int, tuple[int, int]] = {}
    for number, group in enumerate(groups):
        line = 0
        for members in group.lines:
            before = None
            for index in members:
                if before is not None and group.kind is not BlockKind.TABLE and not same_line(words[before], words[index]):
                    line += 1
                places[index] = (number, line)
                before = index
            line += 1
    return places


def _merged(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for first, last in spans:
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged
