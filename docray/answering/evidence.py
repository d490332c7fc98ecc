"""A search hit read again, word by word: what an answer may quote, and where each character of it stands.

Owns the way from a hit to its words and its sentences. Leaves finding hits to retrieval, choosing among sentences to
`docray.answering.extractive` and `docray.answering.claims`, boxes to `docray.answering.citations`.
"""

import bisect
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from docray.answering.characters import visible
from docray.answering.sentences import STOPS, cut_ranges, sentence_ranges
from docray.answering.terms import stems_of
from docray.domain.catalog import Catalog
from docray.domain.documents import Block, BlockKind, Page, PageSpan, Word, text_of, words_of
from docray.domain.principals import Principal
from docray.domain.questions import Hit

_PROSE = (BlockKind.PARAGRAPH, BlockKind.LIST_ITEM)


@dataclass(frozen=True, eq=False, kw_only=True)
class Evidence:
    """A hit with the words it consists of. `text` is the words' text, white space as it stands; offsets count its characters."""

    hit: Hit
    pages: Mapping[int, Page]
    spans: tuple[PageSpan, ...]  # the hit's, those that touch joined
    words: tuple[tuple[int, Word], ...]  # with the number of the page
    text: str
    offsets: tuple[int, ...]  # where each word begins

    def words_in(self, start: int, end: int) -> range:
        """Positions of the words that `text[start:end]` touches."""
        return range(max(0, bisect.bisect_right(self.offsets, start) - 1), bisect.bisect_left(self.offsets, end))

    def line(self, start: int, end: int) -> str:
        """`text[start:end]` on one line, without hidden characters: as it is quoted."""
        return " ".join(visible(self.text[start:end]).split())

    @cached_property
    def sentences(self) -> "tuple[Sentence, ...]":
        """Sentences of prose, rows of tables and headings, in order."""
        return tuple(_sentences(self))


    @cached_property
    def label_stems(self) -> frozenset[str]:
        """Terms of what stands above the passage: headings, and the document's title and file name."""
        document = self.hit.document
        return stems_of("\n".join((*self.hit.heading_path, document.title or "", document.filename.replace("_", " "))))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Sentence:
    """What can be quoted as one: `evidence.text[start:end]`."""

    evidence: Evidence
    start: int
    end: int
    kind: BlockKind

    @property
    def text(self) -> str:
        """The sentence on one line."""
        return self.evidence.line(self.start, self.end)


async def read_evidence(catalog: Catalog, principal: Principal, hits: Sequence[Hit]) -> list[Evidence]:
    """The hits with their words, in order. Those whose generation is no longer the live one are left out."""
    by_generation: dict[tuple[object, int], list[Hit]] = {}
    for hit in hits:
        by_generation.setdefault((hit.document.id, hit.generation), []).append(hit)
    found: dict[int, Evidence] = {}
    async with catalog.transaction(principal) as transaction:
        for group in by_generation.values():
            numbers = sorted({span.page for hit in group for span in hit.spans})
            pages = await transaction.passages.pages(group[0].document.id, group[0].generation, numbers)
            found |= {id(hit): evidence for hit in group if (evidence := evidence_from(hit, pages))}
    return [found[id(hit)] for hit in hits if id(hit) in found]


def evidence_from(hit: Hit, pages: Mapping[int, Page]) -> Evidence | None:
    """The hit with its words; None where a page of it is not there."""
    if not all(span.page in pages and span.end <= len(pages[span.page].words) for span in hit.spans):
        return None
    spans = tuple(_touching_joined(hit.spans))
    words = tuple(_within_one_text(words_of(pages, spans)))
    text = text_of(word for _, word in words)
    lengths = (len(word.said) + len(word.after) for _, word in words)
    offsets = tuple(itertools.islice(itertools.accumulate(lengths, initial=0), len(words)))
    return Evidence(hit=hit, pages=pages, spans=spans, words=words, text=text, offsets=offsets)


def _within_one_text(words: Iterable[tuple[int, Word]]) -> Iterator[tuple[int, Word]]:
    """The words, with no more than a space at the end of a page: whether a sentence ends there, blocks and stops tell."""
    held: tuple[int, Word] | None = None
    for number, word in words:
        if held and held[0] != number and held[1].after:
            held = (held[0], replace(held[1], after=" "))
        if held:
            yield held
        held = (number, word)
    if held:
        yield held


def _touching_joined(spans: Iterable[PageSpan]) -> Iterator[PageSpan]:
    """Neighbouring passages of one page as one run, so that a sentence cut between them is whole again."""
    held: PageSpan | None = None
    for span in spans:
        if held and held.page == span.page and held.end == span.start:
            held = PageSpan(held.page, held.start, span.end)
            continue
        if held:
            yield held
        held = span
    if held:
        yield held


def _sentences(evidence: Evidence) -> Iterator[Sentence]:
    for kind, start, end in _joined(evidence, _runs(evidence)):
        low = evidence.offsets[start]
        high = evidence.offsets[end - 1] + len(evidence.words[end - 1][1].said)
        ranges = sentence_ranges if kind in _PROSE else cut_ranges
        for first, last in ranges(evidence.text, low, high):
            yield Sentence(evidence=evidence, start=first, end=last, kind=kind)


def _runs(evidence: Evidence) -> Iterator[tuple[BlockKind, int, int]]:
    """Runs `[start, end)` of the evidence's words that no sentence leaves: blocks, and rows of tables."""
    base = 0
    for span in evidence.spans:
        for kind, start, end in _block_runs(evidence.pages[span.page]):
            low, high = max(start, span.start), min(end, span.end)
            if low < high:
                yield kind, base + low - span.start, base + high - span.start
        base += span.end - span.start


def _block_runs(page: Page) -> Iterable[tuple[BlockKind, int, int]]:
    """The page's runs; where it was not divided it is one paragraph."""
    for block in page.blocks or (Block(BlockKind.PARAGRAPH, 0, len(page.words)),):
        if block.kind is BlockKind.TABLE and block.rows:
            yield from ((block.kind, start, end) for start, end in block.rows)
        else:
            yield block.kind, block.start, block.end


def _joined(evidence: Evidence, runs: Iterable[tuple[BlockKind, int, int]]) -> Iterator[tuple[BlockKind, int, int]]:
    """Joins prose that goes on after a page's end: no stop before it, and no capital letter (or a script without them) after it."""
    held: tuple[BlockKind, int, int] | None = None
    for run in runs:
        if held and _goes_on(evidence, held, run):
            held = (held[0], held[1], run[2])
            continue
        if held:
            yield held
        held = run
    if held:
        yield held


def _goes_on(evidence: Evidence, run: tuple[BlockKind, int, int], following: tuple[BlockKind, int, int]) -> bool:
    (page, last), (next_page, first) = evidence.words[run[2] - 1], evidence.words[following[1]]
    if page == next_page or run[0] not in _PROSE or following[0] not in _PROSE:
        return False
    begins = first.text[:1]
    return last.hyphen or (last.said[-1:] not in STOPS and begins.isalpha() and not begins.isupper())
