"""Reads the postings of a query's terms and scores the chunks that have them.

Owns how much is read; `keyword_memory` may have it already. Rare terms are read whole. What a term that stands nearly everywhere adds is
only looked up for the documents that the others put in front: so the cost is bounded, however large the corpus.
"""

import dataclasses
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import numpy as np

from docray.stores.keyword_cells import Numbering
from docray.stores.keyword_memory import Corpus, KeywordMemory
from docray.stores.keyword_rows import KEY_RANGE, NO_ROWS, Integers, TermRows, decode
from docray.stores.keyword_scoring import Scores, Size, Worth
from docray.stores.keyword_terms import GRAMS_PRESENT, Analyser, tokens_of
from docray.stores.postgres import Connection, array_text
from docray.stores.sql import load

_SQL = load("index")
SAMPLE_PARTS = 512  # for the size of the corpus


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
    """The scores of a query, how large the corpus is that they are of, and the epoch that it must still be at where all was remembered."""

    scores: Scores
    size: Size
    recalled_epoch: int | None = None
    remembered: bool = False  # whether anything was


@dataclass(frozen=True, slots=True)
class _Term:
    key: int
    weight: float
    rows: TermRows


_DEFAULT = Limits()


class KeywordSearch:
    """One search within a transaction. `with_grams` says of tenants that they have text indexed by n-grams."""

    def __init__(
        self, connection: Connection, tenant_id: UUID, within: Parts | None, with_grams: MutableMapping[UUID, bool], limits: Limits = _DEFAULT,
        memory: KeywordMemory | None = None,
    ) -> None:  # fmt: skip
        self._connection = connection
        self._tenant_id = tenant_id
        self._within = within
        self._with_grams = with_grams
        self._limits = limits
        self._memory = memory if within is None else None  # a restricted scope reads other rows of a term
        self._corpus: Corpus | None = None
        self._compared = False  # whether the epoch was read in this transaction, with postings

    async def size(self) -> Size:
        """How large the corpus is, for a search without words: it may be some minutes old."""
        corpus = self._memory.corpus(self._tenant_id) if self._memory else None
        if corpus is not None:
            return corpus.size
        rows = await self._connection.fetch(_SQL["measure"], *self._measuring())
        return self._learn(rows[0]["parts"])[0]

    async def scores(self, query: str, analyser: Analyser) -> Ranked:
        """Scores the chunks that have a term of the query."""
        tokens = tokens_of(query)
        weights = analyser.word_keys(tokens)
        if self._with_grams.get(self._tenant_id):
            weights |= analyser.gram_keys(tokens)
        limit = self._first_rows(len(weights))
        recalled = await self._recall(list(weights), limit)
        found, size = recalled or await self._read_first(list(weights), limit)
        if self._with_grams.get(self._tenant_id):
            grams = {key: weight for key, weight in analyser.gram_keys(tokens).items() if key not in weights}
            if grams:
                found |= await self._read(list(grams), limit)
                weights |= grams
        terms = self._rarest([_Term(key, weights[key], rows) for key, rows in found.items() if len(rows.parts)])
        if all(term.rows.covered == 1.0 for term in terms):
            scores = _scores(terms, terms, size, self._corpus.numbering() if self._corpus else Numbering())
        else:
            scores = await self._scores_of_common(terms, size)
        epoch = self._corpus.epoch if self._corpus and not self._compared else None
        return Ranked(scores, size, epoch, recalled is not None)

    def _first_rows(self, terms: int) -> int:
        return max(self._limits.fewest_rows, min(self._limits.sample_rows, self._limits.first_rows // max(1, terms)))

    def _rarest(self, terms: list[_Term]) -> list[_Term]:
        """Terms by falling rarity, without the commonest of a query that has too many: those tell the least."""
        terms = sorted(terms, key=lambda term: (term.rows.frequency, term.key))[: self._limits.terms]
        records = 0
        for place, term in enumerate(terms):
            records += len(term.rows.ns)
            if records > self._limits.records:
                return terms[: max(1, place)]
        return terms

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
            return _scores(rare, terms, size, Numbering())
        front = _scores(rare, terms, size, Numbering()).best_parts(self._limits.front_parts)
        read = await self._read([term.key for term in common], None, within=front)
        in_front = [dataclasses.replace(term, rows=read.get(term.key, NO_ROWS)) for term in common]
        return _scores(rare + in_front, terms, size, Numbering())

    async def _recall(self, keys: Sequence[int], limit: int) -> tuple[dict[int, TermRows], Size] | None:
        """The first rows of terms, only those read that are not remembered; None where nothing is, or the epoch has moved on."""
        corpus = self._memory.corpus(self._tenant_id) if self._memory else None
        if self._memory is None or corpus is None:
            return None
        found = corpus.rows(keys, limit)
        missing = [key for key in keys if key not in found]
        if missing:
            parameters: list[Any] = [self._tenant_id]
            query = f"{_SQL['epoch']}\nUNION ALL\n{self._postings(missing, limit, None, parameters)}"
            rows = await self._connection.fetch(query, *parameters)
            if [numbers_of(row["parts"]) for row in rows if not row["place"]] != [[corpus.epoch]]:
                return None
            self._compared = True
            found |= self._keep(corpus.epoch, corpus.size, missing, _term_rows(rows, missing, limit), limit)
        self._corpus = corpus
        return {key: found[key] for key in keys}, corpus.size

    async def _read_first(self, keys: Sequence[int], limit: int) -> tuple[dict[int, TermRows], Size]:
        """The first rows of terms, in one round trip with the size of the corpus."""
        parameters = self._measuring()
        query = f"{_SQL['measure']}\nUNION ALL\n{self._postings(keys, limit, self._restriction(None), parameters)}"
        rows = await self._connection.fetch(query, *parameters)
        size, epoch = next(self._learn(row["parts"]) for row in rows if not row["place"])
        found = _term_rows(rows, keys, limit)
        if epoch is not None:
            self._compared = True
            found = self._keep(epoch, size, keys, found, limit)
        return found, size

    def _keep(self, epoch: int, size: Size, keys: Sequence[int], found: dict[int, TermRows], limit: int) -> dict[int, TermRows]:
        """Remembers what was read, also of terms that have no rows."""
        if self._memory:
            found = {key: found.get(key, NO_ROWS) for key in keys}
            self._corpus = self._memory.keep(self._tenant_id, epoch, size, found, limit)
        return found

    async def _read(self, keys: Sequence[int], limit: int | None, *, within: Integers | None = None) -> dict[int, TermRows]:
        parameters: list[Any] = [self._tenant_id]
        query = self._postings(keys, limit, self._restriction(within), parameters)
        return _term_rows(await self._connection.fetch(query, *parameters), keys, limit)

    def _restriction(self, within: Integers | None) -> Integers | None:
        return within if within is not None or self._within is None else self._within.keys

    def _measuring(self) -> list[Any]:
        return [self._tenant_id, SAMPLE_PARTS, GRAMS_PRESENT]

    def _postings(self, keys: Sequence[int], limit: int | None, within: Integers | None, parameters: list[Any]) -> str:
        parameters += [array_text(keys), limit]
        query = _SQL["postings"].replace("{terms}", f"${len(parameters) - 1}").replace("{limit}", f"${len(parameters)}")
        if within is None:
            return query.replace("{within}", "")
        parameters.append(array_text(within.tolist()))
        return query.replace("{within}", f"AND p.part = ANY (${len(parameters)}::text::bigint[])")

    def _learn(self, packed: bytes) -> tuple[Size, int | None]:
        """The size of the corpus and its epoch; None for a tenant that the catalogue does not know."""
        parts, last_part, chunks, pages, grams, *epoch = numbers_of(packed)
        if grams:
            self._with_grams[self._tenant_id] = True
        size = self._within.size if self._within else size_of(parts, last_part, chunks, pages)
        return size, epoch[0] if epoch else None


def numbers_of(packed: bytes) -> list[int]:
    """Whole numbers that a statement has packed."""
    numbers: list[int] = np.frombuffer(packed, ">i8").tolist()
    return numbers


def _term_rows(rows: Sequence[asyncpg.Record], keys: Sequence[int], limit: int | None) -> dict[int, TermRows]:
    read = [(place, (parts, sizes, postings)) for place, parts, sizes, postings in rows if place]
    decoded = decode([columns for _, columns in read], limit)
    return {keys[place - 1]: term for (place, _), term in zip(read, decoded, strict=True)}


def size_of(parts: int, last_part: int, chunks: int, pages: int) -> Size:
    """The size of a corpus by its first parts."""
    if parts < SAMPLE_PARTS:
        return Size(chunks, pages)
    covered = (last_part + 1) / KEY_RANGE
    return Size(chunks / covered, pages / covered)


def _scores(terms: Sequence[_Term], all_terms: Sequence[_Term], size: Size, numbering: Numbering) -> Scores:
    """Scores by some terms; what each is worth comes from the rows first read of it."""
    worth = Worth.of([term.rows for term in all_terms], [term.weight for term in all_terms], size)
    if terms is not all_terms:
        places = {term.key: place for place, term in enumerate(all_terms)}
        worth = worth.select([places[term.key] for term in terms])
    return Scores([term.rows for term in terms], worth, numbering)
