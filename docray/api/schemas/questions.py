"""Search and ask."""

from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from docray.api.schemas.fields import Body, Box, Id, JsonObject, Object, Text

# --- requests ------------------------------------------------------------------------------------------------------------


class SearchBody(Body):
    """A search."""

    query: Text = Field(min_length=1, max_length=8000)
    limit: int = Field(10, ge=1, le=100)
    mode: Literal["hybrid", "dense", "keyword"] = "hybrid"
    collection_ids: list[Id] = Field(default_factory=list, max_length=1000)
    document_ids: list[Id] = Field(default_factory=list, max_length=1000)
    filter: JsonObject = Field(default_factory=dict)
    rerank: bool | None = None
    merge_neighbours: bool = True


class AskBody(Body):
    """A question."""

    question: Text = Field(min_length=1, max_length=8000)
    stream: bool = False
    collection_ids: list[Id] = Field(default_factory=list, max_length=1000)
    document_ids: list[Id] = Field(default_factory=list, max_length=1000)
    filter: JsonObject = Field(default_factory=dict)
    limit: int = Field(8, ge=1, le=50)
    model: Text | None = None
    mode: Literal["answer"] = "answer"
    conversation_id: Id | None = None
    max_tokens: int | None = Field(None, ge=1, le=100_000)
    temperature: float | None = Field(None, ge=0, le=2)


# --- answers -------------------------------------------------------------------------------------------------------------


class HitScores(Object):
    """Null for a leg that did not run or did not find it."""

    dense: float | None
    keyword: float | None
    rerank: float | None


class HitDocument(Object):
    """The document of a passage."""

    id: UUID
    filename: str
    title: str | None
    collection_ids: list[UUID]
    metadata: dict[str, Any]


class HitPage(Object):
    """Where a passage stands on one page."""

    page: int
    width: float
    height: float
    bboxes: list[Box]


class Hit(Object):
    """A passage."""

    rank: int
    score: float
    scores: HitScores
    chunk_id: UUID
    document: HitDocument
    generation: int
    text: str
    snippet: str
    heading_path: list[str]
    pages: list[HitPage]


class SearchTimings(Object):
    """Milliseconds."""

    embed: float
    retrieve: float
    authority: float
    total: float


class SearchResults(Object):
    """What a search found, best first."""

    object: Literal["search_results"]
    query: str
    results: list[Hit]
    degraded: list[str]
    timings_ms: SearchTimings


class CitedDocument(Object):
    """The document of a citation."""

    id: UUID
    filename: str
    title: str | None


class Citation(Object):
    """What supports `answer[span]`, on one page."""

    index: int
    span: list[int] = Field(min_length=2, max_length=2)
    quote: str
    chunk_id: UUID
    document: CitedDocument
    page: int
    width: float
    height: float
    bboxes: list[Box]


class AnswerUsage(Object):
    """Tokens and money."""

    prompt_tokens: int
    completion_tokens: int
    cost_usd: float


class AnswerTimings(Object):
    """Milliseconds."""

    retrieve: float
    first_token: float | None
    total: float


class Answer(Object):
    """A cited answer, or a refusal."""

    id: UUID
    object: Literal["answer"]
    answer: str
    refused: bool
    refusal_reason: Literal["no_documents", "not_in_documents"] | None
    citations: list[Citation]
    search_results: list[Hit]
    model: str
    usage: AnswerUsage
    degraded: list[str]
    timings_ms: AnswerTimings
    conversation_id: UUID | None
