"""A library in memory: pages made of text or read from a PDF, cut by docray's own chunker, searched by words they share and by meaning.

It stands behind the ports of the answer service, so that its tests need no database; `tests/integration/test_ask.py` runs on the real one.
"""

import math
import textwrap
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from docray.answering.terms import stems_of
from docray.domain.documents import Block, BlockKind, Chunk, Page, PageSpan, Word
from docray.domain.ids import chunk_id
from docray.domain.ports import Embedder
from docray.domain.principals import Principal
from docray.domain.principals import Scope as Right
from docray.domain.questions import DocumentCard, Hit, Scope, SearchRequest, SearchResults
from docray.ingestion.chunking import Chunker
from docray.ingestion.extract.engines import open_with
from docray.ingestion.extract.limits import ParserLimits
from docray.ingestion.extract.reader import Reader, ReadPage

TENANT = uuid.UUID(int=1)
PRINCIPAL = Principal(
    kind="api_key", id=uuid.UUID(int=2), name="test", tenant_id=TENANT, tenant_name="default", scopes=frozenset({Right.ASK}), user_id=None
)
_LINE_CHARACTERS = 80
WIDTH, HEIGHT, LINE, LETTER = 600.0, 800.0, 14.0, 6.0


def page_of(number: int, *paragraphs: str, kind: BlockKind = BlockKind.PARAGRAPH) -> Page:
    """A page of paragraphs, one word behind the other, each letter six points wide. A line of the text is a line of the page, a long one several."""
    words: list[Word] = []
    blocks = []
    line = 0
    for paragraph in paragraphs:
        start, rows = len(words), []
        lines = [line.split() for text in paragraph.split("\n") for line in textwrap.wrap(text, _LINE_CHARACTERS, break_on_hyphens=False)]
        for index, pieces in enumerate(lines):
            rows.append((len(words), len(words) + len(pieces)))
            words += _line(pieces, line, after="\n\n" if index == len(lines) - 1 else "\n")
            line += 1
        line += 1
        blocks.append(Block(kind, start, len(words), rows=tuple(rows) if kind is BlockKind.TABLE else ()))
    return Page(number=number, width=WIDTH, height=HEIGHT, rotation=0, words=tuple(words), blocks=tuple(blocks))


def _line(pieces: Sequence[str], line: int, after: str) -> list[Word]:
    words, x, y = [], 50.0, 50.0 + line * LINE
    for index, piece in enumerate(pieces):
        last = index == len(pieces) - 1
        hyphen = last and len(piece) > 1 and piece.endswith("-")
        width = LETTER * len(piece)
        words.append(Word(piece, (x, y, x + width, y + LINE - 2), line, "" if hyphen else after if last else " ", hyphen))
        x += width + LETTER
    return words


def pages_of_pdf(data: bytes) -> list[Page]:
    """The pages of a PDF as docray reads them."""
    reader = Reader("pymupdf", ParserLimits(), open_with, structure=True)
    return [event.page for event in reader.read(memoryview(data)) if isinstance(event, ReadPage)]


@dataclass
class Library:
    """Documents with their chunks. Is catalogue and searcher in one."""

    embedder: Embedder
    chunk_tokens: int = 200
    _pages: dict[tuple[uuid.UUID, int], dict[int, Page]] = field(default_factory=dict)
    _chunks: list[tuple[DocumentCard, Chunk, Any]] = field(default_factory=list)

    @property
    def documents(self) -> int:
        """How many documents it holds."""
        return len(self._pages)

    async def add(self, filename: str, *pages: Page) -> uuid.UUID:
        """Takes in a document; returns its id."""
        identity = uuid.UUID(int=100 + len(self._pages))
        card = DocumentCard(id=identity, filename=filename, title=None, collection_ids=(), metadata={}, created_at=datetime(2026, 1, 1, tzinfo=UTC))
        chunker = Chunker(max_tokens=self.chunk_tokens, count_tokens=lambda texts: [len(text) // 4 + 1 for text in texts])
        chunks = chunker.chunk(pages, title=None, filename=filename)
        vectors = await self.embedder.embed_passages([chunk.indexed_text for chunk in chunks])
        self._pages[identity, 1] = {page.number: page for page in pages}
        self._chunks += [(card, chunk, vector) for chunk, vector in zip(chunks, vectors, strict=True)]
        return identity

    async def search(self, principal: Principal, request: SearchRequest) -> SearchResults:
        """The best chunks by reciprocal ranks of shared words and cosine."""
        documents = request.scope.document_ids
        found = [entry for entry in self._chunks if documents is None or entry[0].id in documents]
        query = (await self.embedder.embed_queries([request.query]))[0]
        asked, seen = stems_of(request.query), Counter(stem for _, chunk, _ in found for stem in stems_of(chunk.text))
        dense = [float(vector @ query) for _, _, vector in found]
        words = [sum(math.log(1 + len(found) / seen[stem]) for stem in asked & stems_of(chunk.text)) for _, chunk, _ in found]
        ranks = Counter[int]()
        for scores in (dense, words):
            for rank, index in enumerate(sorted(range(len(found)), key=lambda index: -scores[index])):
                ranks[index] += 1 / (60 + rank)  # type: ignore[assignment]
        best = sorted(ranks, key=lambda index: -ranks[index])[: request.limit]
        hits = tuple(_hit(rank, *found[index][:2], dense[index], ranks[index]) for rank, index in enumerate(best, 1))
        return SearchResults(query=request.query, hits=hits, timings_ms={"total": 0.0})

    @asynccontextmanager
    async def transaction(self, principal: Principal) -> AsyncIterator[Any]:
        """The catalogue's door."""
        yield SimpleNamespace(passages=self)

    async def pages(self, document_id: uuid.UUID, generation: int, numbers: Sequence[int]) -> Mapping[int, Page]:
        """Pages of a live generation."""
        pages = self._pages.get((document_id, generation), {})
        return {number: pages[number] for number in numbers if number in pages}

    async def any_in_scope(self, scope: Scope) -> bool:
        """Whether any document is in scope."""
        return any(scope.document_ids is None or identity in scope.document_ids for identity, _ in self._pages)

    def replace(self, document_id: uuid.UUID) -> None:
        """The generation that was found is no longer the live one."""
        del self._pages[document_id, 1]


def _hit(rank: int, card: DocumentCard, chunk: Chunk, dense: float, score: float) -> Hit:
    return Hit(
        rank=rank,
        score=score,
        dense=dense,
        keyword=None,
        rerank=None,
        chunk_id=chunk_id(TENANT, card.id, 1, chunk.n),
        document=card,
        generation=1,
        text=chunk.text,
        snippet="",
        heading_path=chunk.heading_path,
        pages=chunk.pages,
        spans=chunk.spans,
    )


def a_hit(page: Page) -> Hit:
    """A whole page as a hit."""
    card = DocumentCard(
        id=uuid.UUID(int=99), filename="a.pdf", title=None, collection_ids=(), metadata={}, created_at=datetime(2026, 1, 1, tzinfo=UTC)
    )
    chunk = Chunk(n=0, text=page.text, spans=(PageSpan(page.number, 0, len(page.words)),), pages=())
    return _hit(1, card, chunk, 0.5, 0.5)
