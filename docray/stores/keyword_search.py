"""Reads the postings of a query's terms and scores the chunks that have them.

Owns how much is read. Rare terms are read whole. What a term that stands nearly everywhere adds is only looked up for the documents that the
others put in front: so the cost is bounded, however large the corpus.
"""

import dataclasses
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import numpy as np

from docray.stores.keyword_scoring import Integers, Records, Scores, Size, TermRows, Worth
from docray.stores.keyword_terms import GRAMS_PRESENT, Analyser, tokens_of
from docray.stores.postgres import Connection
from docray.stores.sql import load

_SQL = load("index")
SAMPLE_PARTS = 512  # for the size of the corpus
_GRAPH_ROWS = 40_000  # of all tenants, that a search of the graph passes at most
_KEY_RANGE = float(2**63)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a search reads. The defaults keep it under some ten thousand rows and under a few milliseconds."""

    sample_rows: int = 512  # of each term at first
    first_rows: int = 16_384  # of all terms at first: a very long query reads fewer rows of each
    fewest_rows: int = 16
    terms: int = 128  # of a very long query, the rarest
    records: int = 60_000  # of the terms that count
    whole_rows: int = 8_192  # of the terms read whole, together
    front_parts: int = 256  # for which the others are looked up


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


_DEFAULT = Limits()


class KeywordSearch:
    """One search within a transaction, which it prepares. `with_grams` says of tenants that they have text indexed by n-grams."""

    def __init__(
        self, connection: Connection, tenant_id: UUID, within: Parts | None, with_grams: MutableMapping[UUID, bool], limits: Limits = _DEFAULT
    ) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self._within = within
        self._with_grams = with_grams
        self._limits = limits

    async def prepare(self, graph_width: int) -> Size:
        """Prepares the transaction for a search without words."""
        rows = await self._connection.fetch(_SQL["prepare_search"], *self._preparation(graph_width))
        return self._learn(rows[0]["parts"])

    async def scores(self, query: str, analyser: Analyser, graph_width: int) -> Ranked:
        """Prepares the transaction and scores the chunks that have a term of the query."""
        tokens = tokens_of(query)
        weights = analyser.word_keys(tokens)
        if self._with_grams.get(self._tenant_id):
            weights |= analyser.gram_keys(tokens)
        limit = self._first_rows(len(weights))
        found, size = await self._read_first(list(weights), limit, graph_width)
        if self._with_grams.get(self._tenant_id):
            grams = {key: weight for key, weight in analyser.gram_keys(tokens).items() if key not in weights}
            if grams:
                found |= await self._read(list(grams), limit)
                weights |= grams
        terms = self._rarest([_Term(key, weights[key], rows) for key, rows in found.items()])
        if all(term.rows.covered == 1.0 for term in terms):
            return Ranked(_scores(terms, terms, size), size)
        return Ranked(await self._scores_of_common(terms, size), size)

    def _first_rows(self, terms: int) -> int:
        return max(self._limits.fewest_rows, min(self._limits.sample_rows, self._limits.first_rows // max(1, terms)))

    def _rarest(self, terms: list[_Term]) -> list[_Term]:
        """Terms by falling rarity, without the commonest of a query that has too many: those tell the least."""
        terms = sorted(terms, key=lambda term: (term.rows.frequency, term.key))[: self._limits.terms]
        records = np.cumsum([term.rows.count for term in terms])
        return terms[: max(1, int(np.searchsorted(records, self._limits.records, side="right")))]

    async def _scores_of_common(self, terms: list[_Term], size: Size) -> Scores:
        """Scores where not every term was read whole; terms come the rarest first."""
        rows = np.cumsum([term.rows.rows for term in terms])
        whole = max(1, int(np.searchsorted(rows, self._limits.whole_rows, side="right")))
        rare, common = terms[:whole], terms[whole:]
        again = [term.key for term in rare if term.rows.covered < 1.0]
        if again:
            read = await self._read(again, self._limits.whole_rows)
            rare = [dataclasses.replace(term, rows=read.get(term.key, term.rows)) for term in rare]
        if not common:
            return _scores(rare, terms, size)
        front = _scores(rare, terms, size).best_parts(self._limits.front_parts)
        read = await self._read([term.key for term in common], None, within=front)
        none = TermRows.of(None, None, None, limit=None)
        return _scores(rare + [dataclasses.replace(term, rows=read.get(term.key, none)) for term in common], terms, size)

    async def _read_first(self, keys: Sequence[int], limit: int, graph_width: int) -> tuple[dict[int, TermRows], Size]:
        """The first rows of terms, in one round trip with the preparation."""
        parameters = self._preparation(graph_width)
        query = f"{_SQL['prepare_search']}\nUNION ALL\n{self._postings(keys, limit, self._restriction(None), parameters)}"
        rows = await self._connection.fetch(query, *parameters)
        size = next(self._learn(row["parts"]) for row in rows if not row["place"])
        return _term_rows(rows, keys, limit), size

    async def _read(self, keys: Sequence[int], limit: int | None, *, within: Integers | None = None) -> dict[int, TermRows]:
        parameters: list[Any] = [self._tenant_id]
        query = self._postings(keys, limit, self._restriction(within), parameters)
        return _term_rows(await self._connection.fetch(query, *parameters), keys, limit)

    def _restriction(self, within: Integers | None) -> Integers | None:
        return within if within is not None or self._within is None else self._within.keys

    def _preparation(self, graph_width: int) -> list[Any]:
        return [self._tenant_id, SAMPLE_PARTS, GRAMS_PRESENT, str(graph_width), str(_GRAPH_ROWS)]

    def _postings(self, keys: Sequence[int], limit: int | None, within: Integers | None, parameters: list[Any]) -> str:
        parameters += [keys, limit]
        query = _SQL["postings"].replace("{terms}", f"${len(parameters) - 1}").replace("{limit}", f"${len(parameters)}")
        if within is None:
            return query.replace("{within}", "")
        parameters.append(within.tolist())
        return query.replace("{within}", f"AND p.part = ANY (${len(parameters)}::bigint[])")

    def _learn(self, packed: bytes) -> Size:
        parts, last_part, chunks, pages, grams = (int(value) for value in np.frombuffer(packed, ">i8"))
        if grams:
            self._with_grams[self._tenant_id] = True
        return self._within.size if self._within else size_of(parts, last_part, chunks, pages)


def _term_rows(rows: Sequence[asyncpg.Record], keys: Sequence[int], limit: int | None) -> dict[int, TermRows]:
    return {keys[place - 1]: TermRows.of(parts, sizes, postings, limit=limit) for place, parts, sizes, postings in rows if place}


def size_of(parts: int, last_part: int, chunks: int, pages: int) -> Size:
    """The size of a corpus by its first parts."""
    if parts < SAMPLE_PARTS:
        return Size(chunks, pages)
    covered = (last_part + 1) / _KEY_RANGE
    return Size(chunks / covered, pages / covered)


def _scores(terms: Sequence[_Term], all_terms: Sequence[_Term], size: Size) -> Scores:
    """Scores by some terms; what each is worth comes from the rows first read of it."""
    records = Records([term.rows for term in all_terms])
    worth = Worth.of(records, [term.rows.covered for term in all_terms], [term.weight for term in all_terms], size)
    if terms is all_terms:
        return Scores(records, worth)
    places = {term.key: place for place, term in enumerate(all_terms)}
    return Scores(Records([term.rows for term in terms]), worth.select([places[term.key] for term in terms]))
