"""Rows of figures: which visual lines are a label with two or more numbers.

A cash-flow line whose figures land in another paragraph answers questions wrongly. Owns visual lines and the test. Leaves what to do
about a torn row to `mending`.
"""

import re
from collections.abc import Sequence

from docray.domain.documents import Word

_NUMBER = re.compile(r"^[($€£¥+\-−–]*\d[\d.,'’]*[)%xX]?[),;*]*$")
_CELL = re.compile(r"^[$€£¥%()\-−–—*†]+$")  # signs that stand between or beside figures: currency, dashes for nothing, parentheses


def same_line(first: Word, second: Word) -> bool:
    """Whether two words overlap by half the height of the lower one."""
    _, top, _, bottom = first.box
    _, other_top, _, other_bottom = second.box
    height, other_height = bottom - top, other_bottom - other_top
    overlap = (bottom if bottom < other_bottom else other_bottom) - (top if top > other_top else other_top)
    return overlap >= 0.5 * (height if height < other_height else other_height)


def visual_rows(words: Sequence[Word]) -> list[list[int]]:
    """Words (indices) that stand on one line across the page, left to right; rows from top to bottom."""
    rows: list[list[int]] = []
    for index in sorted(range(len(words)), key=lambda index: words[index].box[1] + words[index].box[3]):
        if rows and same_line(words[rows[-1][-1]], words[index]):
            rows[-1].append(index)
        else:
            rows.append([index])
    for row in rows:
        row.sort(key=lambda index: words[index].box[0])
    return rows


def rows_of_figures(words: Sequence[Word]) -> list[list[int]]:
    """The visual rows that end in two or more numbers after a label."""
    return [row for row in visual_rows(words) if _is_row_of_figures([words[index].text for index in row])]


def _is_row_of_figures(texts: Sequence[str]) -> bool:
    numbers = 0
    for position, text in enumerate(reversed(texts)):
        if _NUMBER.match(text):
            numbers += 1
        elif not _CELL.match(text):
            return numbers >= 2 and any(char.isalpha() for char in "".join(texts[: len(texts) - position]))
    return False
