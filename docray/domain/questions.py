"""Questions and what answers them: search requests, filters, hits, citations, answers and the events of a streamed answer."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from docray.domain.documents import Box, PageBoxes, PageSpan


class SearchMode(enum.StrEnum):
    """Which legs run."""

    HYBRID = "hybrid"
    DENSE = "dense"
    KEYWORD = "keyword"


# --- filters: a checked tree; `docray.answering.filters` parses it from JSON -----------------------------------------


class Operator(enum.StrEnum):
    """Comparisons of a filter. `ne` and `nin` hold where the field is missing."""

    EQ = "eq"
    NE = "ne"
    IN = "in"
    NIN = "nin"
    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"
    EXISTS = "exists"


@dataclass(frozen=True, slots=True)
class Condition:
    """`field operator value`. Fields: `metadata.*`, `attributes.*`, `filename`, `title`, `page`, `created_at`.

    `created_at` values are datetimes, `page` values integers, the others JSON scalars; `in` and `nin` hold tuples.
    """

    field: str
    operator: Operator
    value: Any


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every part holds."""

    parts: "tuple[Filter, ...]"


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one part holds."""

    parts: "tuple[Filter, ...]"


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: "Filter"


Filter = Condition | AllOf | AnyOf | Not


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which passages of the tenant may be found. None means no restriction; an empty tuple never stands here."""

    collection_ids: tuple[UUID, ...] | None = None
    document_ids: tuple[UUID, ...] | None = None
    filter: Filter | None = None

    @property
    def unrestricted(self) -> bool:
        """Whether every passage of the tenant is in scope."""
        return self.collection_ids is None and self.document_ids is None and self.filter is None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """One search, checked."""

    query: str
    limit: int = 10
    mode: SearchMode = SearchMode.HYBRID
    scope: Scope = field(default_factory=Scope)
    rerank: bool | None = None
    merge_neighbours: bool = True


# --- what the index yields: ids and scores, nothing that could leak ---------------------------------------------------


class Candidate(NamedTuple):
    """A chunk id with the score of each leg that found it (higher is better), best first in a list. A tuple: a search makes 80 of them."""

    chunk_id: UUID
    score: float
    dense: float | None = None
    keyword: float | None = None


# --- what PostgreSQL confirms -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentCard:
    """The document of a passage."""

    id: UUID
    filename: str
    title: str | None
    collection_ids: tuple[UUID, ...]
    metadata: Mapping[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A chunk read from PostgreSQL under row-level security: live generation of a readable document."""

    chunk_id: UUID
    document: DocumentCard
    generation: int
    n: int
    text: str
    after: str
    heading_path: tuple[str, ...]
    spans: tuple[PageSpan, ...]
    pages: tuple[PageBoxes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A search result: a passage, or neighbouring passages merged around the best one (`chunk_id`)."""

    rank: int
    score: float
    dense: float | None
    keyword: float | None
    rerank: float | None
    chunk_id: UUID
    document: DocumentCard
    generation: int
    text: str
    snippet: str
    heading_path: tuple[str, ...]
    pages: tuple[PageBoxes, ...]
    spans: tuple[PageSpan, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResults:
    """Hits, what was degraded on the way, and stage times."""

    query: str
    hits: tuple[Hit, ...]
    degraded: tuple[str, ...] = ()
    timings_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question, checked. `mode` is `answer`."""

    question: str
    limit: int = 8
    mode: str = "answer"
    scope: Scope = field(default_factory=Scope)
    model: str | None = None
    conversation_id: UUID | None = None
    max_tokens: int | None = None
    temperature: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """What supports `answer[span]`: a verbatim quote of a passage on one page, with its boxes there, one per line."""

    index: int
    span: tuple[int, int]
    quote: str
    chunk_id: UUID
    document: DocumentCard
    page: int
    width: float
    height: float
    boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and money of one answer."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0


class RefusalReason(enum.StrEnum):
    """Why there is no answer."""

    NO_DOCUMENTS = "no_documents"
    NOT_IN_DOCUMENTS = "not_in_documents"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A cited answer, or a refusal."""

    id: UUID
    answer: str
    refusal_reason: RefusalReason | None
    citations: tuple[Citation, ...]
    search_results: SearchResults
    model: str
    usage: Usage
    degraded: tuple[str, ...]
    timings_ms: Mapping[str, float | None]
    conversation_id: UUID | None = None

    @property
    def refused(self) -> bool:
        """Whether the documents do not say."""
        return self.refusal_reason is not None


# --- events of an answer on its way -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """Search is done; first event, once."""

    results: SearchResults


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Cited:
    """A citation whose span is complete and verified."""

    citation: Citation


@dataclass(frozen=True, slots=True)
class Finished:
    """Last event: the whole answer."""

    answer: Answer


AnswerEvent = Found | Delta | Cited | Finished


# --- the language model -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Message:
    """One turn: `role` is `system`, `user` or `assistant`."""

    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One call of a language model."""

    messages: Sequence[Message]
    model: str
    max_tokens: int
    temperature: float


@dataclass(frozen=True, slots=True)
class GeneratedText:
    """A piece of generated text; the last one carries the usage."""

    text: str
    usage: Usage | None = None
