"""Whether the documents say what is asked: measured signals, and the one decision that an answer may be given.

Owns how much of a question a sentence covers and what that must amount to. Leaves terms to `docray.answering.terms` and choosing
sentences to `docray.answering.extractive`. No model judges here, so the same question always gets the same decision.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from docray.answering.terms import Term, content_terms_of
from docray.domain.ports import Embedder

_NAME_WEIGHT = 2.0
_MOST_PIECES = 4
_USUAL_COSINE = 0.4  # of questions and their sentences


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question as weighted terms: the rarer a word, the more an answer must be about it."""

    question: str
    weights: Mapping[str, float]
    names: frozenset[str]  # stems of names and numbers

    @property
    def total(self) -> float:
        """All weights together."""
        return sum(self.weights.values())

    def coverage(self, stems: frozenset[str]) -> float:
        """The share of the question's weight that these terms hold, 0…1; 0 for a question of function words only."""
        return sum(weight for stem, weight in self.weights.items() if stem in stems) / self.total if self.weights else 0.0

    def among(self, texts: Sequence[frozenset[str]]) -> "Asked":
        """The question as it tells these texts apart: a term that stands in most of them weighs little, however rare it is elsewhere."""
        counts = {stem: sum(stem in text for text in texts) for stem in self.weights}
        return replace(self, weights={stem: math.log1p(len(texts) / (1 + count)) for stem, count in counts.items()})

    def missing_names(self, stems: frozenset[str]) -> float:
        """The share of the question's names and numbers that these terms lack; 0 where it names nothing."""
        return len(self.names - stems) / len(self.names) if self.names else 0.0


async def asked(question: str, embedder: Embedder) -> Asked:
    """The question's terms with weights.

    No table of word frequencies is at hand, but the embedder's vocabulary is one: a frequent word is one token, a rare one falls
    into many. Names and numbers weigh double.
    """
    terms = {term.stem: term for term in reversed(content_terms_of(question))}
    pieces = await embedder.count_tokens([term.word.casefold() for term in terms.values()]) if terms else []
    weights = {stem: _weight(term, count) for (stem, term), count in zip(terms.items(), pieces, strict=True)}
    return Asked(question=question, weights=weights, names=frozenset(stem for stem, term in terms.items() if term.name or term.number))


def _weight(term: Term, pieces: int) -> float:
    return min(max(pieces, 1), _MOST_PIECES) * (_NAME_WEIGHT if term.name or term.number else 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """What speaks for an answer: cosine of question and sentence (None where nothing was embedded); of the question's terms the share that
    stands around the sentence, and the share with names that stand elsewhere in its document (a filing names its company once); the share of
    the question's names and numbers that none of the document's passages hold."""

    cosine: float | None
    coverage: float
    coverage_with_names: float
    missing_names: float


def signals(question: Asked, cosine: float | None, around: frozenset[str], document: frozenset[str]) -> Signals:
    """The signals of a sentence with these terms around it, in a document whose passages hold those terms."""
    return Signals(
        cosine=cosine,
        coverage=question.coverage(around),
        coverage_with_names=question.coverage(around | (question.names & document)),
        missing_names=question.missing_names(document),
    )


def enough(found: Signals) -> bool:
    """Whether the documents say what is asked.

    The weights are a logistic regression over 556 questions (XQuAD in English, German, Russian, Arabic and Chinese, each once with and
    once without its article; the contract's invented facts and off-topic questions) with all-MiniLM-L6-v2: 89 % right on average over
    answerable and other ones, 100 % of the facts and of the off-topic ones. `benchmarks/refusal.py` measures it again.
    """
    cosine = _USUAL_COSINE if found.cosine is None else found.cosine
    return 2.7 * cosine + 4.0 * found.coverage + 3.0 * found.coverage_with_names - 2.45 * found.missing_names > 3.9
