"""The keyword index's records: what is stored of every (term, part of a document), made from chunks.

Owns the record and the weights in it. BM25's saturated term frequency (k1 1.2, b .75) is computed here, once, against fixed lengths
instead of the corpus' mean: nothing has to be rewritten as a corpus grows, and chunks are of one size by construction (SciFact, nDCG@10:
.688 with the mean, .683 to .697 with 60 to 300 words). Inverse document frequencies are the query's business.

A record holds two weights: the chunk's, and the one of its whole page. Found together they rank better than either alone.
"""

import hashlib
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from docray.domain.documents import Chunk
from docray.stores.keyword_terms import GRAMS_PRESENT, Analyser, is_english, key_of, tokens_of

RECORD = np.dtype([("n", "<u4"), ("page", "<u2"), ("chunk", "u1"), ("whole_page", "u1")])
"""Chunk number, its first page, and both weights as 255ths of `LARGEST_WEIGHT`. Sorted by n within a row. `keyword_scoring` reads it as one
64-bit number."""
RECORD_BYTES = RECORD.itemsize

K1, B = 1.2, 0.75
LARGEST_WEIGHT = K1 + 1
CHUNK_WORDS, PAGE_WORDS = 100.0, 300.0  # lengths, in words that count, at which a weight is neither raised nor lowered


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The keyword side of consecutive chunks of one generation. `key` is random-like: sorting by it samples without bias."""

    key: int
    first_n: int
    last_n: int
    chunks: int
    pages: int
    terms: list[int]
    postings: list[bytes]  # one for each term: records, none for GRAMS_PRESENT


def part_key(document_id: uuid.UUID, generation: int, first_n: int) -> int:
    """The number of a part within its tenant: 63 bits, the same for the same chunks."""
    digest = hashlib.blake2b(document_id.bytes + generation.to_bytes(8) + first_n.to_bytes(8), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def make_part(document_id: uuid.UUID, generation: int, chunks: Sequence[Chunk], analyser: Analyser) -> Part:
    """Counts and weighs the terms of chunks, which are of one generation and in order."""
    texts = [tokens_of(chunk.text) for chunk in chunks]
    contexts = [tokens_of(chunk.context) for chunk in chunks]
    english = is_english([token for tokens in texts for token in tokens])
    pages = [min(chunk.spans[0].page if chunk.spans else 0, 0xFFFF) for chunk in chunks]
    counts = _Counts(analyser, english)
    for place, page in enumerate(pages):
        counts.add(place, page, texts[place], contexts[place])
    terms, records = counts.records([chunk.n for chunk in chunks], pages)
    starts = np.flatnonzero(np.r_[True, terms[1:] != terms[:-1]]) if len(terms) else np.empty(0, np.int64)
    postings = [piece.tobytes() for piece in np.split(records, starts[1:])] if len(terms) else []
    keys = [int(key) for key in terms[starts]]
    if not english:
        keys, postings = [*keys, GRAMS_PRESENT], [*postings, b""]
    return Part(
        key=part_key(document_id, generation, chunks[0].n), first_n=chunks[0].n, last_n=chunks[-1].n,
        chunks=len(chunks), pages=len(set(pages)), terms=keys, postings=postings,
    )  # fmt: skip


class _Counts:
    """Term counts of the chunks of a part, and of their pages: what a page's chunks have for context counts once."""

    def __init__(self, analyser: Analyser, english: bool) -> None:
        self._analyser = analyser
        self._english = english
        self._chunks: list[Counter[int]] = []
        self._lengths: list[float] = []
        self._pages: dict[int, Counter[int]] = {}
        self._contexts: dict[int, dict[int, int]] = {}
        self._page_lengths: Counter[int] = Counter()

    def add(self, place: int, page: int, text: Sequence[str], context: Sequence[str]) -> None:
        words, above = self._keys(text), self._keys(context)
        self._chunks.append(Counter(words + above))
        self._lengths.append(len(text) + len(context))
        self._pages.setdefault(page, Counter()).update(words)
        self._contexts.setdefault(page, {}).update(Counter(above))
        self._page_lengths[page] += len(text)

    def _keys(self, tokens: Sequence[str]) -> list[int]:
        return [key_of(term) for term in self._analyser.document_terms(tokens, english=self._english)]

    def records(self, ns: Sequence[int], pages: Sequence[int]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.void]]:
        """Term keys, sorted, and their records, sorted by chunk within a term."""
        sizes = [len(counter) for counter in self._chunks]
        terms = np.fromiter((key for counter in self._chunks for key in counter), np.int64, sum(sizes))
        chunk_counts = np.fromiter((count for counter in self._chunks for count in counter.values()), np.float64, sum(sizes))
        page_counts = np.fromiter(
            (self._pages[page][key] + self._contexts[page].get(key, 0) for page, counter in zip(pages, self._chunks, strict=True) for key in counter),
            np.float64, sum(sizes),
        )  # fmt: skip
        records = np.empty(len(terms), RECORD)
        records["n"], records["page"] = np.repeat(ns, sizes), np.repeat(pages, sizes)
        records["chunk"] = _weights(chunk_counts, np.repeat(self._lengths, sizes), CHUNK_WORDS)
        page_lengths = [float(self._page_lengths[page]) for page in pages]
        records["whole_page"] = _weights(page_counts, np.repeat(page_lengths, sizes), PAGE_WORDS)
        order = np.lexsort((records["n"], terms))
        return terms[order], records[order]


def _weights(counts: npt.NDArray[np.float64], lengths: npt.NDArray[np.float64], usual: float) -> npt.NDArray[np.uint8]:
    """BM25's saturated term frequency, of its largest value 255ths, at least one."""
    saturated = counts / (counts + K1 * (1 - B + B * lengths / usual))
    return np.clip(np.rint(saturated * 255), 1, 255).astype(np.uint8)
