"""A searcher whose searches are timed."""

import time
from collections.abc import Callable
from typing import Protocol

from docray.domain.principals import Principal
from docray.domain.questions import SearchRequest, SearchResults


class Searcher(Protocol):
    """`docray.answering.retrieval.SearchService`."""

    async def search(self, principal: Principal, request: SearchRequest) -> SearchResults:
        """The best passages in scope."""
        ...


class MeasuredSearch:
    """Passes searches on and tells how long each that succeeded took, in milliseconds."""

    def __init__(self, searcher: Searcher, note: Callable[[float], None]) -> None:
        self._searcher = searcher
        self._note = note

    async def search(self, principal: Principal, request: SearchRequest) -> SearchResults:
        """As the searcher's."""
        started = time.perf_counter()
        results = await self._searcher.search(principal, request)
        self._note((time.perf_counter() - started) * 1000)
        return results
