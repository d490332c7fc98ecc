"""Scores chunks by the records of a query's terms: BM25 of the chunk and of its page, averaged. Pure numpy, no I/O.

Document frequencies come from the records themselves. Where a term has more rows than were read, those read are the first by part key,
which is as good as random: their share of the key's range tells how many there are (k minimum values; with 512 rows ± 4 %).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from docray.stores.keyword_postings import LARGEST_WEIGHT, RECORD

_KEY_RANGE = float(2**63)
_DENSE_CELLS = 4_000_000  # above that many (part, chunk) places numbers are compacted first

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TermRows:
    """The rows read of one term, by part key. `covered` is the share of the key's range that they cover: 1.0 when they are all."""

    parts: Integers
    sizes: Integers  # records of each row
    records: npt.NDArray[np.void]
    covered: float = 1.0

    @classmethod
    def of(cls, parts: bytes | None, sizes: bytes | None, records: bytes | None, *, limit: int | None) -> "TermRows":
        """From the database's answer; `limit` is how many rows were asked for."""
        keys = np.frombuffer(parts or b"", ">i8").astype(np.int64)
        complete = limit is None or len(keys) < limit
        covered = 1.0 if complete else (float(keys[-1]) + 1) / _KEY_RANGE
        lengths = np.frombuffer(sizes or b"", ">i4").astype(np.int64) // RECORD.itemsize
        return cls(keys, lengths, np.frombuffer(records or b"", RECORD), covered)

    @property
    def rows(self) -> float:
        """How many rows the term has, estimated where not all were read."""
        return len(self.parts) / self.covered


@dataclass(frozen=True, slots=True)
class Size:
    """How many chunks and pages a corpus has."""

    chunks: float
    pages: float


@dataclass(frozen=True, slots=True)
class Frequencies:
    """Inverse document frequencies of a query's terms, times the terms' weights in the query, among chunks and among pages."""

    chunks: Floats
    pages: Floats

    def of(self, places: Sequence[int]) -> "Frequencies":
        """Those of some terms, in this order."""
        return Frequencies(self.chunks[list(places)], self.pages[list(places)])


@dataclass(frozen=True, slots=True)
class Ranking:
    """Chunks by falling score, equal ones by part and number."""

    parts: Integers
    ns: Integers
    scores: Floats


class _Places:
    """Numbers (part, number) pairs within as few cells as can be, growing with part and number."""

    def __init__(self, parts: Integers, numbers: Integers, part_count: int) -> None:
        largest = np.full(part_count, -1, np.int64)
        np.maximum.at(largest, parts, numbers)
        self._largest = largest
        self._offsets = np.cumsum(largest + 1) - (largest + 1)
        self.of_pairs: Integers = self._offsets[parts] + numbers
        self.cells = int(self._offsets[-1] + largest[-1] + 1) if part_count else 0
        self._compact: Integers | None = None
        if self.cells > _DENSE_CELLS:
            self._compact, self.of_pairs = np.unique(self.of_pairs, return_inverse=True)
            self.cells = len(self._compact)

    def find(self, part: int, number: int) -> int | None:
        """The cell of a pair, by the part's position; None when no number that large was seen."""
        if number > self._largest[part]:
            return None
        place = int(self._offsets[part]) + number
        if self._compact is None:
            return place
        at = int(np.searchsorted(self._compact, place))
        return at if at < len(self._compact) and self._compact[at] == place else None


class Scores:
    """The score of every chunk that has at least one of the query's terms."""

    def __init__(self, terms: Sequence[TermRows], worth: Frequencies) -> None:
        records = np.concatenate([term.records for term in terms]) if terms else np.empty(0, RECORD)
        sizes = np.concatenate([term.sizes for term in terms]) if terms else np.empty(0, np.int64)
        keys = np.concatenate([term.parts for term in terms]) if terms else np.empty(0, np.int64)
        self._parts, part_of_row = np.unique(keys, return_inverse=True)
        part_of = np.repeat(part_of_row, sizes)
        ns, pages = records["n"].astype(np.int64), records["page"].astype(np.int64)
        counts = [len(term.records) for term in terms]
        of_page = _Places(part_of, pages, len(self._parts))
        of_whole_page = np.where(_firsts(sizes, pages), records["whole_page"], 0) * np.repeat(worth.pages, counts)
        page_scores = np.bincount(of_page.of_pairs, of_whole_page, of_page.cells)
        self._places = _Places(part_of, ns, len(self._parts))
        places, cells = self._places.of_pairs, self._places.cells
        totals = np.bincount(places, records["chunk"] * np.repeat(worth.chunks, counts), cells)
        # A chunk's page, part and number: any of its records tells.
        page_of, self._part_of, self._n_of = np.zeros(cells, np.int64), np.zeros(cells, np.int64), np.zeros(cells, np.int64)
        page_of[places], self._part_of[places], self._n_of[places] = of_page.of_pairs, part_of, ns
        found = totals > 0
        totals[found] += page_scores[page_of[found]]
        self._totals = totals * (LARGEST_WEIGHT / 255 / 2)

    def best(self, limit: int, start: int = 0) -> Ranking:
        """Chunks `[start, start + limit)` of the order."""
        end = start + limit
        candidates = np.flatnonzero(self._totals)
        if len(candidates) > 4 * end:
            least = np.partition(self._totals[candidates], len(candidates) - end)[len(candidates) - end]
            candidates = candidates[self._totals[candidates] >= least]
        best = candidates[np.lexsort((candidates, -self._totals[candidates]))][start:end]
        return Ranking(self._parts[self._part_of[best]], self._n_of[best], self._totals[best])

    def of(self, part: int, n: int) -> float | None:
        """One chunk's score; None when it has none of the terms."""
        at = int(np.searchsorted(self._parts, part))
        if at == len(self._parts) or self._parts[at] != part:
            return None
        place = self._places.find(at, n)
        return float(self._totals[place]) or None if place is not None else None

    def best_parts(self, limit: int) -> Integers:
        """The parts with the best chunks."""
        if not len(self._parts):
            return self._parts
        best = np.zeros(len(self._parts))
        np.maximum.at(best, self._part_of, self._totals)
        chosen: Integers = self._parts[np.sort(np.argsort(-best, kind="stable")[:limit])]
        return chosen


def frequencies(terms: Sequence[TermRows], weights: Sequence[float], size: Size) -> Frequencies:
    """What each term is worth in this corpus."""
    covered = np.array([term.covered for term in terms])
    among_chunks = np.array([len(term.records) for term in terms]) / covered
    pages = [np.count_nonzero(_firsts(term.sizes, term.records["page"].astype(np.int64))) for term in terms]
    among_pages = np.array(pages, np.float64) / covered
    factor = np.asarray(weights)
    return Frequencies(factor * _idf(among_chunks, size.chunks), factor * _idf(among_pages, size.pages))


def _idf(among: Floats, total: float) -> Floats:
    total = max(total, float(among.max(initial=0.0)))
    value: Floats = np.log1p((total - among + 0.5) / (among + 0.5))
    return value


def _firsts(sizes: Integers, pages: Integers) -> npt.NDArray[np.bool_]:
    """Marks the first record of each page in each row; the others tell the same of their page."""
    firsts = np.ones(len(pages), np.bool_)
    firsts[1:] = pages[1:] != pages[:-1]
    starts = np.cumsum(sizes)[:-1]
    firsts[starts[starts < len(firsts)]] = True
    return firsts
