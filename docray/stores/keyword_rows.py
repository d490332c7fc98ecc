"""The rows that were read of a query's terms, decoded into columns once, for all the searches that use them.

Owns what a row's records say, and how often a term stands where not all of its rows were read: those read are the first by part key, which
is as good as random, so that their share of the key's range tells how many there are (k minimum values; with 512 rows ± 4 %).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from docray.stores.keyword_postings import RECORD, RECORD_BYTES

KEY_RANGE = float(2**63)
_OBJECT_BYTES = 1_500  # of a dozen arrays without what they hold
_CELL_BYTES = 8

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Column = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Cells:
    """Where a numbering has put a term's records, and the first record of each page in each row. Good for one layout of the numbering."""

    layout: object
    chunks: Integers
    pages: Integers


@dataclass(slots=True, eq=False)
class TermRows:
    """The rows of one term, by part key. Nobody changes the columns; `cells` are a numbering's note.

    A record tells of its chunk and of its page, and all those of a page in a row tell the same of it: `firsts` are the first of each.
    """

    parts: Integers
    sizes: Integers  # records of each row
    covered: float  # the share of the key's range that the rows cover: 1.0 when they are all
    last_ns: Integers  # the largest chunk number of each row, -1 of an empty one
    last_pages: Integers
    ns: Column
    pages: Column
    weights: Column
    firsts: Column
    page_weights: Column
    cells: Cells | None = field(default=None, repr=False)
    rows: float = field(init=False)  # how many rows the term has, estimated where not all were read
    frequency: float = field(init=False)  # in how many chunks the term stands
    page_frequency: float = field(init=False)  # on how many pages, counted in each row

    def __post_init__(self) -> None:
        """What is asked of the term by every search."""
        self.rows = len(self.parts) / self.covered
        self.frequency = len(self.ns) / self.covered
        self.page_frequency = len(self.firsts) / self.covered

    @property
    def size_bytes(self) -> int:
        """How much memory they take, about, with their cells."""
        columns = (self.parts, self.sizes, self.last_ns, self.last_pages, self.ns, self.pages, self.weights, self.firsts, self.page_weights)
        return _OBJECT_BYTES + sum(column.nbytes for column in columns) + _CELL_BYTES * (len(self.ns) + len(self.firsts))


def decode(read: Sequence[tuple[bytes, bytes, bytes]], limit: int | None) -> list[TermRows]:
    """The rows of terms from the database's packed columns: part keys, bytes of each row, records. `limit` is how many rows of each were
    asked for. All at once: numpy's cost is by the call."""
    if not read:
        return []
    parts = [np.frombuffer(keys, ">i8").astype(np.int64) for keys, _, _ in read]
    sizes = [(np.frombuffer(lengths, ">i4") // RECORD_BYTES).astype(np.int64) for _, lengths, _ in read]
    joined = np.frombuffer(b"".join([records for _, _, records in read]), RECORD)
    ns, pages = joined["n"].astype(np.int32), joined["page"].copy()
    weights, page_weights = joined["chunk"].copy(), joined["whole_page"].copy()
    all_sizes = np.concatenate(sizes)
    row_ends = np.cumsum(all_sizes)
    last_ns, last_pages = _last(ns, row_ends, all_sizes), _last(pages, row_ends, all_sizes)
    first = np.ones(len(ns), np.bool_)
    np.not_equal(pages[1:], pages[:-1], out=first[1:])
    first[row_ends[:-1][row_ends[:-1] < len(ns)]] = True
    firsts = np.flatnonzero(first)
    page_weights = page_weights[firsts]
    counts = [len(records) // RECORD_BYTES for _, _, records in read]
    record_ends = np.cumsum(counts)
    first_ends = np.searchsorted(firsts, record_ends).tolist()
    found, record, row, page = [], 0, 0, 0
    for place, record_end in enumerate(record_ends.tolist()):
        row_end, page_end = row + len(parts[place]), first_ends[place]
        complete = limit is None or len(parts[place]) < limit
        found.append(
            TermRows(
                parts[place], sizes[place], 1.0 if complete else (float(parts[place][-1]) + 1) / KEY_RANGE, last_ns[row:row_end].copy(),
                last_pages[row:row_end].copy(), ns[record:record_end].copy(), pages[record:record_end].copy(), weights[record:record_end].copy(),
                (firsts[page:page_end] - record).astype(np.int32), page_weights[page:page_end].copy(),
            )
        )  # fmt: skip
        record, row, page = record_end, row_end, page_end
    return found


def _last(numbers: Column, ends: Integers, sizes: Integers) -> Integers:
    if not len(numbers):
        return np.full(len(sizes), -1, np.int64)
    last: Integers = np.where(sizes > 0, numbers[ends - 1].astype(np.int64), -1)
    return last


NO_ROWS = decode([(b"", b"", b"")], None)[0]
"""Those of a term that no chunk has."""
