"""What a process remembers of the postings it has read: words come again, and are then neither read nor decoded again.

Owns how much and for how long. What is remembered belongs to one tenant's corpus at one epoch, which moves on with every publish, delete
and change of access; a search asks for the epoch in a statement that it sends anyway, and forgets where it is another one. Two things
change without the epoch. Postings written but not published yet are only missed. Parts that are purged are found out by `pgvector_index`,
for the statement finds none of their chunks. Ten minutes end everything, so that sizes and frequencies stay nearly true.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

from cachetools import LRUCache

from docray.stores.keyword_cells import MOST_SHARED_CELLS, Numbering
from docray.stores.keyword_rows import TermRows
from docray.stores.keyword_scoring import Size

_MOST_BYTES = 64 * 2**20
_MOST_BYTES_OF_TENANT = 16 * 2**20
_KNOWN_S = 600.0
_OBJECT_BYTES = 1_000


class Corpus:
    """What is remembered of one tenant's corpus, as it is at one epoch."""

    def __init__(self, epoch: int, size: Size, until: float, most_bytes: int) -> None:
        self.epoch = epoch
        self.size = size
        self.until = until
        self._numbering: Numbering | None = Numbering(shared=True)
        self._rows: LRUCache[tuple[int, int], TermRows] = LRUCache(most_bytes, getsizeof=lambda rows: rows.size_bytes)

    @property
    def size_bytes(self) -> int:
        """How much memory it takes, about."""
        return _OBJECT_BYTES + int(self._rows.currsize) + (self._numbering.size_bytes if self._numbering else 0)

    def rows(self, keys: Sequence[int], limit: int) -> dict[int, TermRows]:
        """Those of the terms that are remembered of a reading of so many rows; empty rows for one that no chunk has."""
        known = ((key, self._rows.get((limit, key))) for key in keys)
        return {key: rows for key, rows in known if rows is not None}

    def keep(self, found: Mapping[int, TermRows], limit: int) -> None:
        """Remembers rows that were read at this epoch."""
        for key, rows in found.items():
            if rows.size_bytes <= self._rows.maxsize:
                self._rows[limit, key] = rows

    def numbering(self) -> Numbering:
        """One for all searches, while few cells are enough for the corpus; then a new one for each."""
        if self._numbering is not None and self._numbering.chunks.cells + self._numbering.pages.cells > MOST_SHARED_CELLS:
            self._numbering = None
        return self._numbering or Numbering()


class KeywordMemory:
    """Corpora by tenant; at most so many bytes, those not asked for longest go first."""

    def __init__(
        self, *, most_bytes: int = _MOST_BYTES, most_bytes_of_tenant: int = _MOST_BYTES_OF_TENANT, known_s: float = _KNOWN_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._most_bytes_of_tenant = most_bytes_of_tenant
        self._known_s = known_s
        self._clock = clock
        self._corpora: LRUCache[UUID, Corpus] = LRUCache(most_bytes, getsizeof=lambda corpus: corpus.size_bytes)

    @property
    def size_bytes(self) -> int:
        """How much is remembered."""
        return int(self._corpora.currsize)

    def corpus(self, tenant_id: UUID) -> Corpus | None:
        """What is known of a tenant's corpus, whose epoch is to be compared; None where nothing is, or not any longer."""
        known = self._corpora.get(tenant_id)
        return known if known is not None and known.until > self._clock() else None

    def keep(self, tenant_id: UUID, epoch: int, size: Size, found: Mapping[int, TermRows], limit: int) -> Corpus:
        """Remembers rows that were read at an epoch, of a corpus of that size; what is known of another epoch is forgotten."""
        known = self.corpus(tenant_id)
        if known is None or known.epoch != epoch:
            known = Corpus(epoch, size, self._clock() + self._known_s, self._most_bytes_of_tenant)
        known.keep(found, limit)
        self._corpora.pop(tenant_id, None)
        if known.size_bytes <= self._corpora.maxsize:
            self._corpora[tenant_id] = known  # weighed anew
        return known

    def forget(self, tenant_id: UUID) -> None:
        """The tenant's corpus is another one now."""
        self._corpora.pop(tenant_id, None)
