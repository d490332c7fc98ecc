"""The answer without a language model: the few sentences that say it, quoted and cited, or none.

Owns choosing sentences. Leaves the decision whether they say enough to `docray.answering.grounding` and their places on the page to
`docray.answering.citations`. Deterministic: the same passages and question give the same sentences.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from docray.answering.citations import Quote, quotes_of
from docray.answering.evidence import Evidence, Sentence
from docray.answering.grounding import Asked, Signals, asked, enough, signals
from docray.answering.output_gate import is_clean
from docray.answering.sentences import STOPS
from docray.answering.terms import stems_of
from docray.domain.documents import BlockKind
from docray.domain.errors import DocrayError
from docray.domain.ports import Embedder

_log = logging.getLogger(__name__)

_MOST_SENTENCES = 3
_MOST_CANDIDATES = 32  # embedded in one batch: about 0.1 s on two idle cores
_COVERAGE_WEIGHT = 1.5  # beside a cosine of weight 1; both weights chosen on XQuAD in four languages
_SURROUNDINGS_WEIGHT = 0.6
_SURROUNDING_CHARACTERS = 400  # on either side of a sentence: what it leaves unsaid stands there
_PENALTY = 0.4
_FEWEST_NEW_TERMS = 2
_SHORT_CHARACTERS = 50
_SCORE_SHARE = 0.6
_NEW_SHARE = 0.25  # another sentence must cover this much of the question that the ones before do not


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A sentence that may be quoted. `cosine` is None where nothing was embedded; `quotes` is its place, found once it is chosen."""

    sentence: Sentence
    stems: frozenset[str]
    around: frozenset[str]
    score: float
    cosine: float | None = None
    quotes: tuple[Quote, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Extract:
    """The sentences of an answer, best first; none when the documents do not say. `degraded` names what did not take part."""

    choices: tuple[Choice, ...]
    degraded: tuple[str, ...] = ()


async def extract(question: str, evidence: Sequence[Evidence], embedder: Embedder) -> Extract:
    """Chooses one to three sentences that answer the question."""
    wanted = await asked(question, embedder)
    candidates = _candidates(wanted, evidence)
    if not candidates:
        return Extract(choices=())
    scored, degraded = await _scored(question, candidates, embedder)
    choices = _chosen(wanted.among([choice.around for choice in candidates]), scored)
    if not choices or not enough(_signals(wanted, choices[0], evidence)):
        return Extract(choices=(), degraded=degraded)
    return Extract(choices=tuple(choices), degraded=degraded)


def _candidates(wanted: Asked, evidence: Sequence[Evidence]) -> list[Choice]:
    """Sentences that may be quoted, in order of the hits; where there are too many, those whose words fit best."""
    found: dict[str, Choice] = {}
    for passage in evidence:
        stems = [stems_of(sentence.text) for sentence in passage.sentences]
        for position, sentence in enumerate(passage.sentences):
            if sentence.text not in found and stems[position] and is_clean(sentence.text):
                found[sentence.text] = Choice(sentence=sentence, stems=stems[position], around=_surroundings(passage, position, stems), score=0.0)
    telling = wanted.among([choice.around for choice in found.values()])
    scored = [replace(choice, score=_words_score(telling, choice)) for choice in found.values()]
    least = sorted((choice.score for choice in scored), reverse=True)[:_MOST_CANDIDATES][-1:]
    return [choice for choice in scored if [choice.score] >= least][:_MOST_CANDIDATES]


def _words_score(telling: Asked, choice: Choice) -> float:
    """How well a sentence's words fit: its own, and those around it; less for one that only repeats the question."""
    score = _COVERAGE_WEIGHT * telling.coverage(choice.stems) + _SURROUNDINGS_WEIGHT * telling.coverage(choice.around)
    return score - (_PENALTY if _says_little(choice.sentence, choice.stems - telling.weights.keys()) else 0.0)


def _says_little(sentence: Sentence, new: frozenset[str]) -> bool:
    """Headings, questions, and the short lines at the edges of pages: they repeat what is asked and answer nothing."""
    text = sentence.text
    if sentence.kind is BlockKind.HEADING or text.endswith(("?", "？", "؟")) or len(new) < _FEWEST_NEW_TERMS:
        return True
    return sentence.kind is BlockKind.PARAGRAPH and len(text) < _SHORT_CHARACTERS and text[-1] not in STOPS


def _surroundings(passage: Evidence, position: int, stems: Sequence[frozenset[str]]) -> frozenset[str]:
    """Terms of a sentence and those near it, of its headings and its document's names: what it leaves unsaid stands there."""
    low, high = passage.sentences[position].start - _SURROUNDING_CHARACTERS, passage.sentences[position].end + _SURROUNDING_CHARACTERS
    near = (terms for sentence, terms in zip(passage.sentences, stems, strict=True) if low < sentence.end and sentence.start < high)
    return passage.label_stems.union(*near)


async def _scored(question: str, candidates: Sequence[Choice], embedder: Embedder) -> tuple[list[Choice], tuple[str, ...]]:
    """The candidates, best first, equal ones in order of the hits: similarity to the question joins the score, all embedded in one batch."""
    degraded: tuple[str, ...] = ()
    try:
        passages = await embedder.embed_passages([choice.sentence.text for choice in candidates])
        query = (await embedder.embed_queries([question]))[0]
        cosines = [round(float(cosine), 4) for cosine in passages @ query]  # engines differ behind the fourth decimal
        candidates = [replace(choice, cosine=cosine, score=choice.score + cosine) for choice, cosine in zip(candidates, cosines, strict=True)]
    except DocrayError as error:
        _log.warning("Sentences are chosen by their words alone: the embedder does not answer.", extra={"action": "extract", "error": error.code})
        degraded = ("dense",)
    return sorted(candidates, key=lambda choice: -choice.score), degraded


def _chosen(telling: Asked, scored: Sequence[Choice]) -> list[Choice]:
    """The best sentence, then those that answer what it leaves open."""
    chosen: list[Choice] = []
    covered: frozenset[str] = frozenset()
    for choice in scored:
        if chosen and not _adds(telling, choice, chosen[0], covered):
            continue
        quotes = quotes_of(choice.sentence.evidence, choice.sentence.start, choice.sentence.end)
        if not quotes:
            continue
        chosen.append(replace(choice, quotes=quotes))
        covered |= choice.stems
        if len(chosen) == _MOST_SENTENCES:
            break
    return chosen


def _adds(telling: Asked, choice: Choice, best: Choice, covered: frozenset[str]) -> bool:
    """Whether another sentence is worth its place: nearly as good as the best, and about a part of the question that is still open."""
    if choice.score < _SCORE_SHARE * best.score or _says_little(choice.sentence, choice.stems - telling.weights.keys()):
        return False
    return telling.coverage(choice.stems | covered) - telling.coverage(covered) >= _NEW_SHARE


def _signals(wanted: Asked, best: Choice, evidence: Sequence[Evidence]) -> Signals:
    document = best.sentence.evidence.hit.document.id
    passages = (stems_of(passage.text) | passage.label_stems for passage in evidence if passage.hit.document.id == document)
    return signals(wanted, best.cosine, best.around, frozenset().union(*passages))
