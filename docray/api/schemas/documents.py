"""Documents, their pages and collections."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BeforeValidator, Field

from docray.api.json_bodies import decode_json
from docray.api.schemas.fields import Body, Box, Description, Id, JsonObject, Name, Object, Title
from docray.domain.documents import FailureCode, Stage, State
from docray.domain.errors import MalformedJson

# --- answers -------------------------------------------------------------------------------------------------------------


class Failure(Object):
    """Why a file could not be read."""

    code: FailureCode
    message: str
    retryable: bool


class Progress(Object):
    """How far the worker is."""

    stage: Stage
    pages_done: int
    pages_total: int | None


class Replacement(Object):
    """A newer generation in work, or failed."""

    generation: int
    state: State
    progress: Progress
    failure: Failure | None


class Document(Object):
    """A document."""

    id: UUID
    object: Literal["document"]
    collection_ids: list[UUID]
    filename: str
    title: str | None
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size_bytes: int
    page_count: int | None
    chunk_count: int | None
    generation: int
    state: State
    progress: Progress
    failure: Failure | None
    replacement: Replacement | None
    metadata: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    ready_at: datetime | None


class DuplicateDocument(Document):
    """The document that has these bytes already."""

    duplicate: Literal[True]


class DocumentList(Object):
    """Documents, newest first."""

    object: Literal["list"]
    data: list[Document]
    has_more: bool
    next_cursor: str | None


class PageWord(Object):
    """A word as it stands on the page."""

    text: str
    bbox: Box


class Page(Object):
    """A page as displayed."""

    page: int
    width: float
    height: float
    rotation: Literal[0, 90, 180, 270]
    text: str
    words: list[PageWord]


class Collection(Object):
    """A collection."""

    id: UUID
    object: Literal["collection"]
    name: str
    description: str | None
    metadata: dict[str, Any]
    document_count: int
    created_at: datetime


class CollectionList(Object):
    """Collections, newest first."""

    object: Literal["list"]
    data: list[Collection]
    has_more: bool
    next_cursor: str | None


class CollectionDocument(Object):
    """A document in a collection."""

    object: Literal["collection_document"]
    collection_id: UUID
    document_id: UUID
    attributes: dict[str, Any]
    added_at: datetime


class CollectionDocumentList(Object):
    """The documents of a collection, newest first."""

    object: Literal["list"]
    data: list[CollectionDocument]
    has_more: bool
    next_cursor: str | None


# --- requests ------------------------------------------------------------------------------------------------------------


def _object_in(text: Any) -> Any:
    """Metadata come as JSON text in forms and queries."""
    try:
        return decode_json(text.encode(errors="surrogatepass")) if isinstance(text, str) else text
    except MalformedJson:
        raise ValueError("This is no JSON object.") from None


class UploadFields(Body):
    """What may be said beside the bytes of an upload: form fields of a multipart body, query parameters of a raw one."""

    collection_id: list[Id] = Field([], max_length=100)
    metadata: Annotated[JsonObject, BeforeValidator(_object_in)] = Field(default_factory=dict)
    title: Title | None = None
    if_duplicate: Literal["return", "create"] = "return"


class PatchDocument(Body):
    """A merge patch (RFC 7396): null clears a title and removes members of metadata."""

    title: Title | None = None
    metadata: JsonObject | None = None


class NewCollection(Body):
    """A collection to be made."""

    name: Name
    description: Description | None = None
    metadata: JsonObject = Field(default_factory=dict)


class PatchCollection(Body):
    """A merge patch (RFC 7396)."""

    name: Name = ""
    description: Description | None = None
    metadata: JsonObject | None = None


class PutMembership(Body):
    """A document's attributes within a collection; left out, those that are there stay."""

    attributes: JsonObject | None = None


class CorpusStatus(Object):
    """How many documents the tenant has in each state; states without any are left out."""

    object: Literal["status"]
    documents: dict[str, int]
