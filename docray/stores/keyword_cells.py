"""Numbers the chunks and pages of a query's terms, so that scoring adds up into plain arrays.

Owns which cell a (part, number) pair has: cells grow with part and number. One numbering may serve a single search, or all the searches
of a corpus: its layout changes only when a term comes that stands in a part, or further down in one, than any before.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from docray.stores.keyword_rows import Cells, Column, Integers, TermRows

_DENSE_CELLS = 4_000_000  # above that many they are compacted, for a single search
MOST_SHARED_CELLS = 100_000  # above that many a corpus is not numbered as a whole: searches would pass over too much that is not theirs
_NONE = np.empty(0, np.int64)


class Line:
    """Numbers of one kind, chunks or pages, of all parts side by side: a part has cells up to its largest number. Never changes."""

    def __init__(self, largest: Integers) -> None:
        self.largest = largest
        ends = np.cumsum(largest + 1)
        self._offsets: Integers = ends - (largest + 1)
        self.cells = int(ends[-1]) if len(ends) else 0
        self._compact: Integers | None = None

    def places(self, part_of_row: Integers, sizes: Integers, numbers: Column) -> Integers:
        """The cells of rows of numbers, whose parts are given by position."""
        found: Integers = np.repeat(self._offsets[part_of_row], sizes)
        found += numbers
        return found

    def compact(self, places: Integers) -> Integers:
        """Keeps only the cells that are among the places, if there are very many; gives the places their new ones."""
        if self.cells <= _DENSE_CELLS:
            return places
        self._compact, kept = np.unique(places, return_inverse=True)
        self.cells = len(self._compact)
        return kept

    def locate(self, cells: Integers) -> tuple[Integers, Integers]:
        """Positions of the parts, and the numbers, of cells."""
        places = cells if self._compact is None else self._compact[cells]
        parts = np.searchsorted(self._offsets, places, side="right") - 1
        return parts, places - self._offsets[parts]

    def find(self, parts: Integers, numbers: Integers) -> Integers:
        """The cells of pairs, -1 for those that surely have none."""
        places = np.where(numbers <= self.largest[parts], self._offsets[parts] + numbers, -1)
        if self._compact is None:
            return places
        at = np.minimum(np.searchsorted(self._compact, places), len(self._compact) - 1)
        return np.where(self._compact[at] == places, at, -1)


class Numbering:
    """The cells of terms. `shared`: of all that will come, noted at the terms, and with some room so that few of them change the layout."""

    def __init__(self, *, shared: bool = False) -> None:
        self._shared = shared
        self._layout = object()
        self.parts = _NONE  # by key
        self.chunks, self.pages = Line(_NONE), Line(_NONE)
        self.page_of: Integers = _NONE  # the page's cell of each chunk's cell that was numbered

    @property
    def size_bytes(self) -> int:
        """How much memory it takes, about."""
        return 8 * (len(self.page_of) + 5 * len(self.parts))

    def number(self, terms: Sequence[TermRows]) -> tuple[Integers, Integers]:
        """The cells of the records of terms, and of the first records of their pages, in the terms' order."""
        unknown = [term for term in terms if term.cells is None or term.cells.layout is not self._layout]
        if unknown and not self._fits(unknown):
            self._grow(unknown)
            unknown = list(terms)
        found = self._place(unknown) if unknown else (_NONE, _NONE)
        if len(unknown) == len(terms):
            return found
        cells = [term.cells for term in terms if term.cells is not None]
        return np.concatenate([one.chunks for one in cells]), np.concatenate([one.pages for one in cells])

    def _fits(self, terms: Sequence[TermRows]) -> bool:
        parts = _joined(term.parts for term in terms)
        if not len(self.parts):
            return not len(parts)
        at = np.minimum(np.searchsorted(self.parts, parts), len(self.parts) - 1)
        chunks, pages = _joined(term.last_ns for term in terms), _joined(term.last_pages for term in terms)
        fits = (self.parts[at] == parts) & (chunks <= self.chunks.largest[at]) & (pages <= self.pages.largest[at])
        return bool(fits.all())

    def _grow(self, terms: Sequence[TermRows]) -> None:
        before = len(self.parts)
        self.parts, at = np.unique(np.concatenate([self.parts, *(term.parts for term in terms)]), return_inverse=True)
        chunks = self._largest(at, before, self.chunks, _joined(term.last_ns for term in terms))
        pages = self._largest(at, before, self.pages, _joined(term.last_pages for term in terms))
        self.chunks, self.pages = Line(chunks), Line(pages)
        self._layout = object()
        if self._shared:
            self.page_of = np.zeros(self.chunks.cells, np.int64)

    def _largest(self, at: Integers, before: int, line: Line, lasts: Integers) -> Integers:
        largest = np.full(len(self.parts), -1, np.int64)
        np.maximum.at(largest, at[before:], lasts)
        if self._shared:
            known = np.full(len(self.parts), -1, np.int64)
            known[at[:before]] = line.largest
            largest = np.where(largest > known, largest + largest // 8, known)
        return largest

    def _place(self, terms: Sequence[TermRows]) -> tuple[Integers, Integers]:
        part_of_row = np.searchsorted(self.parts, _joined(term.parts for term in terms))
        sizes = _joined(term.sizes for term in terms)
        chunks = self.chunks.places(part_of_row, sizes, _joined(term.ns for term in terms))
        pages = self.pages.places(part_of_row, sizes, _joined(term.pages for term in terms))
        starts = [0, *np.cumsum([len(term.ns) for term in terms]).tolist()]
        firsts = _joined(term.firsts + start for term, start in zip(terms, starts, strict=False))
        if not self._shared:
            chunks, pages = self.chunks.compact(chunks), self.pages.compact(pages)
            self.page_of = np.zeros(self.chunks.cells, np.int64)
        self.page_of[chunks] = pages
        of_firsts = pages[firsts]
        if self._shared:
            page = 0
            for term, start in zip(terms, starts, strict=False):
                page_end = page + len(term.firsts)
                term.cells = Cells(self._layout, chunks[start : start + len(term.ns)].copy(), of_firsts[page:page_end].copy())
                page = page_end
        return chunks, of_firsts


def _joined(columns: Iterable[Column]) -> Integers:
    return np.concatenate(list(columns), dtype=np.int64)
