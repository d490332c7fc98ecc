"""Whether a passage says what a claim says, and the words of it that do.

Owns the check of every citation that a language model makes. The measure is plain: the share of the claim's weighted terms that one
sentence of the passage (or two neighbours) holds, where that is too little the similarity of meaning, and in either case every number of
the claim must stand in the passage. Leaves boxes to `docray.answering.citations`.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from docray.answering.evidence import Evidence, Sentence
from docray.answering.grounding import Asked, asked
from docray.answering.sentences import MOST_CHARACTERS
from docray.answering.terms import stems_of, terms_of
from docray.domain.documents import BlockKind
from docray.domain.errors import DocrayError
from docray.domain.ports import Embedder

_log = logging.getLogger(__name__)

_ENOUGH_COVERAGE = 0.5
_ENOUGH_COSINE = 0.62  # of a claim and the sentence it rewords; unrelated sentences of one passage stay below 0.5
_PAIR_GAIN = 0.15  # two sentences are quoted for one only where the second adds this much


@dataclass(frozen=True, slots=True, kw_only=True)
class Supported:
    """The words of a passage that support a claim: `evidence.text[start:end]`."""

    evidence: Evidence
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Candidate:
    start: int
    end: int
    text: str
    coverage: float


async def find_support(claim: str, passage: Evidence, embedder: Embedder) -> Supported | None:
    """The best supporting quote, or None where the passage does not say that."""
    wanted = await asked(claim, embedder)
    if not wanted.weights or numbers_of(claim) - numbers_of(passage.text):
        return None
    candidates = sorted(_candidates(wanted, passage.sentences), key=lambda candidate: -candidate.coverage)
    if not candidates:
        return None
    best = candidates[0] if candidates[0].coverage >= _ENOUGH_COVERAGE else await _nearest(claim, candidates, embedder)
    return Supported(evidence=passage, start=best.start, end=best.end) if best else None


async def _nearest(claim: str, candidates: "Sequence[_Candidate]", embedder: Embedder) -> "_Candidate | None":
    """The candidate that means the same in other words; None where none does, or the embedder does not answer."""
    try:
        vectors = await embedder.embed_passages([claim, *(candidate.text for candidate in candidates)])
    except DocrayError as error:
        _log.warning("Claims are checked by their words alone: the embedder does not answer.", extra={"action": "support", "error": error.code})
        return None
    cosines = vectors[1:] @ vectors[0]
    return candidates[int(cosines.argmax())] if cosines.max() >= _ENOUGH_COSINE else None


def numbers_of(text: str) -> frozenset[str]:
    """The values of the numbers in a text."""
    return frozenset(term.stem for term in terms_of(text) if term.number)


def _candidates(wanted: Asked, sentences: Sequence[Sentence]) -> Iterator[_Candidate]:
    """Every sentence; and two neighbours as one where together they say clearly more than each of them."""
    coverages = [wanted.coverage(stems_of(sentence.text)) for sentence in sentences]
    for sentence, coverage in zip(sentences, coverages, strict=True):
        yield _Candidate(sentence.start, sentence.end, sentence.text, coverage - (0.01 if sentence.kind is BlockKind.HEADING else 0.0))
    for (first, one), (second, other) in pairwise(zip(sentences, coverages, strict=True)):
        if first.kind is not second.kind or first.kind is BlockKind.HEADING or second.end - first.start > MOST_CHARACTERS:
            continue
        text = first.evidence.line(first.start, second.end)
        coverage = wanted.coverage(stems_of(text))
        if coverage >= max(one, other) + _PAIR_GAIN:
            yield _Candidate(first.start, second.end, text, coverage)
