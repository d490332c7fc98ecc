"""An answer while it is written: text, citations, and what the answer reports about itself.

Owns the numbering of citations, spans and times. Every position counts code points of the answer, as Python strings do.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from docray.answering.citations import Quote, citations_of
from docray.answering.evidence import Evidence
from docray.domain.ids import new_id
from docray.domain.questions import Answer, Citation, Question, RefusalReason, SearchResults, Usage

REFUSALS: Mapping[RefusalReason, str] = {
    RefusalReason.NO_DOCUMENTS: "There are no documents to answer from here.",
    RefusalReason.NOT_IN_DOCUMENTS: "The documents do not say.",
}
"""What a refused question is answered with."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The next text of an answer, with the citations whose spans it completes."""

    text: str
    citations: tuple[Citation, ...] = ()


@dataclass(slots=True, kw_only=True)
class Draft:
    """One answer on its way. `started_s` is `time.perf_counter()` of its beginning."""

    question: Question
    model: str
    started_s: float
    results: SearchResults = field(default_factory=lambda: SearchResults(query="", hits=()))
    text: str = ""
    citations: tuple[Citation, ...] = ()
    refusal_reason: RefusalReason | None = None
    usage: Usage = field(default_factory=Usage)
    degraded: tuple[str, ...] = ()
    _times_ms: dict[str, float | None] = field(default_factory=lambda: {"retrieve": None, "first_token": None, "total": None})
    _quotes: int = 0

    def found(self, results: SearchResults) -> None:
        """Takes over what the search found and how well it went."""
        self.results = results
        self.degraded = tuple(results.degraded)
        self._times_ms["retrieve"] = self._elapsed_ms()

    def add(self, piece: Piece) -> str:
        """Appends a piece and returns its text."""
        if self._times_ms["first_token"] is None:
            self._times_ms["first_token"] = self._elapsed_ms()
        self.text += piece.text
        self.citations += piece.citations
        return piece.text

    def quote(self, text: str, evidence: Evidence, quotes: tuple[Quote, ...]) -> Piece:
        """A quoted sentence with its own marker: `Sentence. [1]`."""
        self._quotes += 1
        separator = " " if self.text else ""
        start = len(self.text) + len(separator)
        citations = citations_of(evidence, quotes, index=self._quotes, span=(start, start + len(text)))
        return Piece(f"{separator}{text} [{self._quotes}]", citations)

    def refuse(self, reason: RefusalReason) -> Piece:
        """The whole answer is that there is none."""
        self.refusal_reason = reason
        return Piece(REFUSALS[reason])

    def fall_back(self, model: str) -> None:
        """The language model did not answer: the answer comes from another, and says so."""
        self.model = model
        self.degraded += ("llm",)

    def answer(self) -> Answer:
        """The finished answer."""
        self._times_ms["total"] = self._elapsed_ms()
        return Answer(
            id=new_id(),
            answer=self.text,
            refusal_reason=self.refusal_reason,
            citations=self.citations,
            search_results=self.results,
            model=self.model,
            usage=self.usage,
            degraded=tuple(dict.fromkeys(self.degraded)),
            timings_ms=dict(self._times_ms),
            conversation_id=self.question.conversation_id,
        )

    def _elapsed_ms(self) -> float:
        return round((time.perf_counter() - self.started_s) * 1000, 2)
