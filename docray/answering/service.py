"""A question → a cited answer, as events.

Owns the order of the steps and what an answer reports about itself. Leaves finding passages to the searcher, sentences to
`docray.answering.extractive`, what a model writes to `docray.answering.generated`, HTTP to `docray.api`.
"""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol

from docray.answering.draft import Draft, Piece
from docray.answering.evidence import read_evidence
from docray.answering.extractive import extract
from docray.answering.generated import GeneratedAnswers, ModelFailed
from docray.domain.catalog import Catalog
from docray.domain.errors import InvalidField
from docray.domain.ports import Embedder, Generator
from docray.domain.principals import Principal
from docray.domain.questions import AnswerEvent, Cited, Delta, Finished, Found, Question, RefusalReason, SearchRequest, SearchResults

EXTRACTIVE = "extractive"
"""The model that is always there: it quotes the best sentences and says nothing itself."""

_MOST_PASSAGES = 10  # whose words are read and whose sentences are weighed, however many are asked for


class Searcher(Protocol):
    """Finds passages: `docray.answering.retrieval.SearchService`."""

    async def search(self, principal: Principal, request: SearchRequest) -> SearchResults:
        """The best passages that the principal may see, best first."""
        ...


class AnswerService:
    """Answers questions from the documents that the principal may see."""

    def __init__(
        self,
        *,
        search: Searcher,
        catalog: Catalog,
        embedder: Embedder,
        generator: Generator | None = None,
        context_tokens: int = 6000,
        max_tokens: int = 1024,
        temperature: float = 0.0,
    ) -> None:
        """`context_tokens` bounds the passages a model reads, `max_tokens` and `temperature` hold where a question names none."""
        self._search = search
        self._catalog = catalog
        self._embedder = embedder
        limits = {"context_tokens": context_tokens, "max_tokens": max_tokens}
        self._generated = GeneratedAnswers(generator, embedder, **limits, temperature=temperature) if generator else None
        self.models: tuple[str, ...] = (*(generator.models if generator else ()), EXTRACTIVE)

    async def answer(self, principal: Principal, question: Question) -> AsyncGenerator[AnswerEvent, None]:
        """Found, then Deltas and Citeds, last Finished. The deltas add up to the answer; closing the iterator stops the model.

        InvalidField (`model`) for an unknown model and whatever the search raises come before the first event; Unavailable after it
        means that the model broke off in the middle.
        """
        draft = Draft(question=question, model=self._model(question), started_s=time.perf_counter())
        results = await self._search.search(principal, _request(question))
        draft.found(results)
        yield Found(results)
        async with aclosing(self._pieces(principal, draft)) as pieces:
            async for piece in pieces:
                yield Delta(draft.add(piece))
                for citation in piece.citations:
                    yield Cited(citation)
        yield Finished(draft.answer())

    def _model(self, question: Question) -> str:
        if question.model is not None and question.model not in self.models:
            raise InvalidField(f"This model is not known here. Use one of: {', '.join(self.models)}.", "model")
        return question.model or self.models[0]

    async def _pieces(self, principal: Principal, draft: Draft) -> AsyncGenerator[Piece, None]:
        """The answer piece by piece; a refusal is one piece."""
        reason = await self._nothing_found(principal, draft)
        if reason:
            yield draft.refuse(reason)
            return
        evidence = await read_evidence(self._catalog, principal, draft.results.hits[:_MOST_PASSAGES])
        if self._generated and draft.model != EXTRACTIVE:
            try:
                async with aclosing(self._generated.pieces(draft, evidence)) as pieces:
                    async for piece in pieces:
                        yield piece
                return
            except ModelFailed:
                draft.fall_back(EXTRACTIVE)
        extracted = await extract(draft.question.question, evidence, self._embedder)
        draft.degraded += extracted.degraded
        for choice in extracted.choices:
            yield draft.quote(choice.sentence.text, choice.sentence.evidence, choice.quotes)
        if not extracted.choices:
            yield draft.refuse(RefusalReason.NOT_IN_DOCUMENTS)

    async def _nothing_found(self, principal: Principal, draft: Draft) -> RefusalReason | None:
        if draft.results.hits:
            return None
        async with self._catalog.transaction(principal) as transaction:
            readable = await transaction.passages.any_in_scope(draft.question.scope)
        return RefusalReason.NOT_IN_DOCUMENTS if readable else RefusalReason.NO_DOCUMENTS


def _request(question: Question) -> SearchRequest:
    return SearchRequest(query=question.question, limit=question.limit, scope=question.scope)
