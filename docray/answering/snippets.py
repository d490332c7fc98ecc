"""The piece of a passage that shows why it was found: about 200 characters around the query's words.

Owns a rough and fast look: beginnings of words, found as plain text. Leaves what a passage says about a question to `evidence`.
"""

import re
from collections.abc import Sequence

SNIPPET_CHARACTERS = 200
_BEFORE = 40  # characters shown before the first word found
_MOST_CHARACTERS = 4_000  # of a passage are looked at
_MOST_WORDS = 24  # of a query
_MOST_PLACES = 8  # of each word
_STEM_CHARACTERS = 5
_WORD = re.compile(r"\w+")
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u9fff\uac00-\ud7af\U00020000-\U0003ffff]")  # scripts without spaces; Hangul
_LONG_RUN = 40  # characters without a space: a script that has none, or something that is no word


def query_stems(query: str) -> tuple[str, ...]:
    """Beginnings of the query's words that are worth looking for, the longest first."""
    words = {word for word in _WORD.findall(query.casefold()) if len(word) > 3 or not word.isascii() or word.isdigit()}
    stems: set[str] = set()
    for word in words:
        if word.isascii() or len(word) <= 2:
            stems.add(word[:_STEM_CHARACTERS])
        else:  # pairs of characters where the script may have no spaces, a shorter beginning where words change
            stems.update(word[at : at + 2] for at in range(len(word) - 1)) if _unspaced(word) else stems.add(word[: _STEM_CHARACTERS - 1])
    return tuple(sorted(stems, key=lambda stem: (-len(stem), stem))[:_MOST_WORDS])


def snippet(text: str, stems: Sequence[str]) -> str:
    """The window of the passage with the most of the stems, on one line, whole words; `…` marks what was left out."""
    line = " ".join(text[:_MOST_CHARACTERS].split())
    if len(line) <= SNIPPET_CHARACTERS and len(text) <= _MOST_CHARACTERS:
        return line
    start = max(0, min(_densest(line.casefold(), stems) - _BEFORE, len(line) - SNIPPET_CHARACTERS))
    end = min(len(line), start + SNIPPET_CHARACTERS)
    if start > 0:
        start = _after_space(line, start)
    if end < len(line):
        end = _before_space(line, end)
    cut = end < len(line) or len(text) > _MOST_CHARACTERS
    return f"{'…' if start > 0 else ''}{line[start:end].strip()}{'…' if cut else ''}"


def _densest(line: str, stems: Sequence[str]) -> int:
    """Where the window with the most different stems begins; the first of several."""
    places = _places(line, stems)
    inside = [0] * len(stems)  # of each stem, in the window that ends here
    best, best_count, count, first = 0, 0, 0, 0
    for end, number in places:
        if not inside[number]:
            count += 1
        inside[number] += 1
        while places[first][0] < end - SNIPPET_CHARACTERS + 2 * _BEFORE:
            leaving = places[first][1]
            inside[leaving] -= 1
            if not inside[leaving]:
                count -= 1
            first += 1
        if count > best_count:
            best, best_count = places[first][0], count
    return best


def _places(line: str, stems: Sequence[str]) -> list[tuple[int, int]]:
    """Where words begin with stems, and which stems; anywhere for a script without spaces. In order."""
    found: list[tuple[int, int]] = []
    find = line.find  # a regular expression of all stems takes longer than this, and as long as ten passages to compile
    for number, stem in enumerate(stems):
        place, left = find(stem), _MOST_PLACES
        while place >= 0 and left:
            if place == 0 or not line[place - 1].isalnum() or _unspaced(stem):
                found.append((place, number))
                left -= 1
            place = find(stem, place + 1)
    found.sort()
    return found


def _unspaced(word: str) -> bool:
    return _UNSPACED.search(word) is not None


def _after_space(line: str, start: int) -> int:
    space = line.find(" ", start - 1, start + _LONG_RUN)
    return start if space < 0 else space + 1


def _before_space(line: str, end: int) -> int:
    space = line.rfind(" ", end - _LONG_RUN, end + 1)
    return end if space < 0 else space
