"""Reads the postings of a query's terms and scores the chunks that have them.

Owns how much is read. Rare terms are read whole. What a term that stands nearly everywhere adds is only looked up for the documents that the
others put in front: so the cost is bounded, however large the corpus.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np

from docray.stores.keyword_scoring import Integers, Records, Scores, Size, TermRows, Worth
from docray.stores.keyword_terms import GRAMS_PRESENT, Analyser
from docray.stores.postgres import Connection
from docray.stores.sql import load

_SQL = load("index")
_SAMPLE_ROWS = 512  # of each term at first
SAMPLE_PARTS = 512  # for the size of the corpus
_FIRST_ROWS = 16_384  # of all terms at first: a very long query reads fewer rows of each
_FEWEST_ROWS = 16
_MOST_TERMS = 128  # of a very long query, the rarest
_WHOLE_ROWS = 8_192  # of the terms read whole, together
_FRONT_PARTS = 256  # for which the others are looked up
_KEY_RANGE = float(2**63)


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that a restricted scope allows."""

    keys: Integers
    size: Size


@dataclass(frozen=True, slots=True)
class Ranked:
    """The scores of a query, and how large the corpus is that they are of."""

    scores: Scores
    size: Size


@dataclass(frozen=True, slots=True)
class _Term:
    key: int
    weight: float
    rows: TermRows


class KeywordSearch:
    """One search within a transaction."""

    def __init__(self, connection: Connection, tenant_id: UUID, within: Parts | None) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self._within = within

    async def scores(self, query: str, analyser: Analyser) -> Ranked:
        """Scores of the chunks that have a term of the query."""
        looked_up = analyser.query_terms(query)
        weights = {**looked_up.words, **looked_up.grams}
        limit = max(_FEWEST_ROWS, min(_SAMPLE_ROWS, _FIRST_ROWS // max(1, len(weights))))
        found, size = await self._read(list(looked_up.words), list(looked_up.grams), limit)
        terms = [_Term(key, weights[key], rows) for key, rows in found.items()]
        terms = sorted(terms, key=lambda term: term.rows.rows)[:_MOST_TERMS]
        if all(term.rows.covered == 1.0 for term in terms):
            return Ranked(_scores(terms, terms, size), size)
        return Ranked(await self._scores_of_common(terms, size), size)

    async def _scores_of_common(self, terms: list[_Term], size: Size) -> Scores:
        """Scores where not every term was read whole; terms come the rarest first."""
        rows = np.cumsum([term.rows.rows for term in terms])
        whole = max(1, int(np.searchsorted(rows, _WHOLE_ROWS, side="right")))
        rare, common = terms[:whole], terms[whole:]
        again = [term.key for term in rare if term.rows.covered < 1.0]
        if again:
            read, _ = await self._read(again, [], _WHOLE_ROWS)
            rare = [dataclasses.replace(term, rows=read.get(term.key, term.rows)) for term in rare]
        if not common:
            return _scores(rare, terms, size)
        front = _scores(rare, terms, size).best_parts(_FRONT_PARTS)
        read, _ = await self._read([term.key for term in common], [], None, within=front)
        none = TermRows.of(None, None, None, limit=None)
        return _scores(rare + [dataclasses.replace(term, rows=read.get(term.key, none)) for term in common], terms, size)

    async def _read(
        self, words: Sequence[int], grams: Sequence[int], limit: int | None, *, within: Integers | None = None
    ) -> tuple[dict[int, TermRows], Size]:
        if within is None and self._within is not None:
            within = self._within.keys
        query = _SQL["postings"].replace("{within}", "" if within is None else "AND p.part = ANY ($7::bigint[])")
        sample = 0 if self._within else SAMPLE_PARTS
        arguments = [self._tenant_id, words, grams, GRAMS_PRESENT, limit, sample]
        if within is not None:
            arguments.append(within.tolist())
        size = self._within.size if self._within else Size(0, 0)
        found: dict[int, TermRows] = {}
        keys = [*words, *grams]
        for place, parts, sizes, postings in await self._connection.fetch(query, *arguments):
            if place:
                found[keys[place - 1]] = TermRows.of(parts, sizes, postings, limit=limit)
            else:
                size = _size(parts)
        return found, size


def size_of(parts: int, last_part: int | None, chunks: int, pages: int) -> Size:
    """The size of a corpus by its first parts."""
    if parts < SAMPLE_PARTS:
        return Size(chunks, pages)
    covered = ((last_part or 0) + 1) / _KEY_RANGE
    return Size(chunks / covered, pages / covered)


def _size(packed: bytes) -> Size:
    parts, last_part, chunks, pages = (int(value) for value in np.frombuffer(packed, ">i8"))
    return size_of(parts, last_part, chunks, pages)


def _scores(terms: Sequence[_Term], all_terms: Sequence[_Term], size: Size) -> Scores:
    """Scores by some terms; what each is worth comes from the rows first read of it."""
    records = Records([term.rows for term in all_terms])
    worth = Worth.of(records, [term.rows.covered for term in all_terms], [term.weight for term in all_terms], size)
    if terms is all_terms:
        return Scores(records, worth)
    places = {term.key: place for place, term in enumerate(all_terms)}
    return Scores(Records([term.rows for term in terms]), worth.select([places[term.key] for term in terms]))
