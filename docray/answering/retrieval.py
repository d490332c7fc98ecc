"""A query → the passages that the principal may see, best first.

Owns the order of the steps, over-fetching and what a result reports. Leaves vectors and words to the index, who may see what to the
catalogue: nothing the index says reaches a caller unless PostgreSQL confirms it under row-level security.
"""

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from cachetools import LRUCache

from docray.answering.fusion import DENSE_SHARE, Fused, dense_share, fuse, single
from docray.answering.neighbours import Group, groups_of
from docray.answering.snippets import query_stems, snippet
from docray.answering.tenant_models import Going, TenantModels
from docray.domain.catalog import Catalog
from docray.domain.errors import RateLimit, Unavailable
from docray.domain.ports import ChunkIndex, Embedder, Reranker, Vectors
from docray.domain.principals import Principal
from docray.domain.questions import Hit, Passage, SearchMode, SearchRequest, SearchResults

_CANDIDATES = 40  # of each leg at least, to fuse: 30, 50 and 100 find as much on pdfqa
_OVERFETCH = 1.3  # passages read for each one asked for: some may be stale, and neighbours become one hit
_SECOND_OVERFETCH = 4.0  # for each that was missing then
_SHARES_KEPT = 10_000  # queries whose share of the dense leg is remembered
_RERANKED = 30  # passages at most


class SearchService:
    """Finds passages."""

    def __init__(
        self, *, catalog: Catalog, index: ChunkIndex, embedder: Embedder, next_embedder: Embedder | None = None, reranker: Reranker | None = None,
        rerank_by_default: bool = False,
    ) -> None:  # fmt: skip
        self._catalog = catalog
        self._index = index
        self._models = TenantModels(catalog, embedder, next_embedder)
        self._reranker = reranker
        self._rerank_by_default = rerank_by_default
        self._shares: LRUCache[tuple[str, str], float] = LRUCache(_SHARES_KEPT)

    async def search(self, principal: Principal, request: SearchRequest) -> SearchResults:
        """The best passages in scope; none is no error. Without the embedder a hybrid search goes on by words and says so.

        Unavailable when the database does not answer, or the embedder for a dense search.
        """
        run = _Run()
        going = await self._models.of(principal)
        question = await self._embed(request, run, going)
        run.lap("embed")
        async with self._catalog.shared(principal):
            ranking = await self._rank(principal, request, question, going)
            run.lap("retrieve")
            groups, stale = await self._confirm(principal, request, ranking)
            if stale and len(groups) < request.limit:  # perhaps a document was replaced between the two: its new passages are ranked now
                groups, _ = await self._confirm(principal, request, await self._rank(principal, request, question, going))
        if await self._models.have_changed(principal, going):
            going = await self._models.of(principal)
            question = await self._embed(request, run, going)
            async with self._catalog.shared(principal):
                groups, _ = await self._confirm(principal, request, await self._rank(principal, request, question, going))
        run.lap("authority")
        scored = await self._rerank(request, groups, run)
        stems = query_stems(request.query)
        hits = tuple(_hit(rank, group, rerank, stems) for rank, (group, rerank) in enumerate(scored[: request.limit], 1))
        return SearchResults(query=request.query, hits=hits, degraded=tuple(run.degraded), timings_ms=run.timings_ms())

    async def _embed(self, request: SearchRequest, run: "_Run", going: Going) -> "_Embedded | None":
        if request.mode is SearchMode.KEYWORD:
            return None
        if not going.known:  # the documents that this model has not embedded are found by their words only
            run.lacks("dense")
        embedder, query = going.embedder, request.query
        known = self._shares.get((embedder.model_id, query)) if request.mode is SearchMode.HYBRID else DENSE_SHARE
        try:
            if known is not None:  # no tasks for what needs none
                (vector,) = await embedder.embed_queries([query])
                return _Embedded(vector, known)
            (vector,), share = await asyncio.gather(embedder.embed_queries([query]), self._dense_share(query, embedder))
            return _Embedded(vector, share)
        except (Unavailable, RateLimit):
            if request.mode is SearchMode.DENSE:
                raise
            run.lacks("dense")
            return None

    async def _dense_share(self, query: str, embedder: Embedder) -> float:
        (tokens,) = await embedder.count_tokens([query])
        share = self._shares[embedder.model_id, query] = dense_share(len(query), tokens)
        return share

    async def _rank(self, principal: Principal, request: SearchRequest, embedded: "_Embedded | None", going: Going) -> list[Fused]:
        limit = max(_CANDIDATES, 2 * request.limit)
        tenant_id, query, scope, crowded = principal.tenant_id, request.query, request.scope, going.form.crowded
        if embedded is None:
            return single(await self._index.search_keyword(tenant_id, query, limit, scope, crowded))
        model_id = going.embedder.model_id
        if request.mode is SearchMode.DENSE:
            return single(await self._index.search_dense(tenant_id, embedded.vector, limit, scope, model_id, crowded))
        return fuse(*await self._index.search_hybrid(tenant_id, query, embedded.vector, limit, scope, model_id, crowded), embedded.share)

    async def _confirm(self, principal: Principal, request: SearchRequest, ranking: Sequence[Fused]) -> tuple[list[Group], bool]:
        """The best of the ranking that PostgreSQL confirms, neighbours merged, and whether it did not confirm some; reads on, twice at most,
        while that leaves too few."""
        needed = max(request.limit, _RERANKED if self._reranks(request) else 0)
        passages: dict[UUID, Passage] = {}
        groups: list[Group] = []
        asked = 0
        for overfetch in (_OVERFETCH, _SECOND_OVERFETCH, math.inf):
            if len(groups) >= needed:
                break
            upto = min(len(ranking), asked + overfetch * (needed - len(groups)))
            wanted = [one.chunk_id for one in ranking[asked : math.ceil(upto)]]
            if not wanted:
                break
            async with self._catalog.reading(principal) as reading:
                passages.update(await reading.read(wanted, request.scope))
            asked += len(wanted)
            groups = groups_of(ranking[:asked], passages, merge=request.merge_neighbours)
        return groups, len(passages) < asked

    def _reranks(self, request: SearchRequest) -> bool:
        return self._reranker is not None and (self._rerank_by_default if request.rerank is None else request.rerank)

    async def _rerank(self, request: SearchRequest, groups: list[Group], run: "_Run") -> list[tuple[Group, float | None]]:
        """The first passages by the reranker's scores, the others left out; all as they are where it is not wanted or not there."""
        unchanged: list[tuple[Group, float | None]] = [(group, None) for group in groups]
        if request.rerank and self._reranker is None:
            run.degraded.append("rerank")
        if self._reranker is None or not self._reranks(request) or not groups:
            return unchanged
        first = groups[: max(_RERANKED, request.limit)]
        try:
            scores = await self._reranker.rerank(request.query, [group.text for group in first])
        except (Unavailable, RateLimit):
            run.degraded.append("rerank")
            return unchanged
        order = sorted(range(len(first)), key=lambda place: -scores[place])
        return [(first[place], scores[place]) for place in order]


@dataclass(frozen=True, slots=True)
class _Embedded:
    """A query's vector, and how much its ranking counts beside that of the words."""

    vector: Vectors
    share: float


class _Run:
    """What a search reports about itself: the time of its stages, and what it had to do without."""

    def __init__(self) -> None:
        self.degraded: list[str] = []
        self._started = self._last = time.perf_counter()
        self._laps: dict[str, float] = {}

    def lacks(self, part: str) -> None:
        """Notes, once, what the search had to do without."""
        if part not in self.degraded:
            self.degraded.append(part)

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self._laps[stage] = round((now - self._last) * 1000, 3)
        self._last = now

    def timings_ms(self) -> dict[str, float]:
        return {**self._laps, "total": round((time.perf_counter() - self._started) * 1000, 3)}


def _hit(rank: int, group: Group, rerank: float | None, stems: Sequence[str]) -> Hit:
    best, leading, text = group.best, group.leading, group.text
    return Hit(
        rank=rank, score=best.score if rerank is None else rerank, dense=best.dense, keyword=best.keyword, rerank=rerank,
        chunk_id=leading.chunk_id, document=leading.document, generation=leading.generation, text=text, snippet=snippet(text, stems),
        heading_path=leading.heading_path, pages=group.pages, spans=group.spans,
    )  # fmt: skip
