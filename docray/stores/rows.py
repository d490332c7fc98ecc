"""Rows become domain values, here and nowhere else."""

from collections.abc import Sequence
from typing import Any

from asyncpg import Record as Row

from docray.domain.documents import (
    Chunk,
    Collection,
    Document,
    Failure,
    FailureCode,
    Membership,
    Page,
    PageBoxes,
    PageSpan,
    Progress,
    Replacement,
    Stage,
    State,
)
from docray.domain.jobs import Lease, Purge
from docray.domain.principals import ApiKey, Principal, Scope, Tenant
from docray.domain.questions import DocumentCard, Passage
from docray.stores import page_layout


def document_of(row: Row) -> Document:
    """A row of docray.document_states. What is not live yet is told by its newest upload; a newer one than what the live one is made of is
    its replacement."""
    live = row["live_generation"]
    return Document(
        id=row["id"],
        collection_ids=tuple(row["collection_ids"]),
        filename=row["filename"],
        title=row["title"],
        sha256=row["sha256"],
        size_bytes=row["size_bytes"],
        page_count=row["page_count"],
        chunk_count=row["chunk_count"],
        generation=row["generation"] if live is None else live,
        state=State(row["state"]),
        progress=_progress_of(row) if live is None else Progress(Stage.DONE, row["page_count"] or 0, row["page_count"]),
        failure=_failure_of(row) if live is None else None,
        replacement=_replacement_of(row) if live is not None and row["generation"] != live else None,
        metadata=row["metadata"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        ready_at=row["ready_at"],
        version=row["version"],
    )


def _replacement_of(row: Row) -> Replacement | None:
    state = State(row["generation_state"])
    if state is State.DELETING:
        return None
    return Replacement(generation=row["generation"], state=state, progress=_progress_of(row), failure=_failure_of(row))


def _progress_of(row: Row) -> Progress:
    return Progress(Stage(row["stage"]), row["pages_done"], row["pages_total"])


def _failure_of(row: Row) -> Failure | None:
    if row["generation_state"] != State.FAILED:
        return None
    return Failure(FailureCode(row["failure_code"]), row["failure_message"], row["failure_retryable"])


def collection_of(row: Row) -> Collection:
    """A row of docray.collections with its document_count."""
    return Collection(
        id=row["id"],
        name=row["name"],
        description=row["description"],
        metadata=row["metadata"],
        document_count=row["document_count"],
        created_at=row["created_at"],
    )


def membership_of(row: Row) -> Membership:
    """A row of docray.collection_documents."""
    return Membership(
        collection_id=row["collection_id"], document_id=row["document_id"], attributes=row["attributes"], added_at=row["added_at"]
    )


def page_of(row: Row) -> Page:
    """A row of docray.pages."""
    words, blocks = page_layout.unpack(row["layout"])
    return Page(number=row["number"], width=row["width"], height=row["height"], rotation=row["rotation"], words=words, blocks=blocks)


def chunk_of(row: Row) -> Chunk:
    """A row of docray.chunks."""
    return Chunk(
        n=row["n"],
        text=row["text"],
        spans=_spans_of(row["spans"]),
        pages=_boxes_of(row["pages"]),
        heading_path=tuple(row["heading_path"]),
        context=row["context"],
        tokens=row["tokens"],
    )


def passages_of(rows: Sequence[Row]) -> list[Passage]:
    """Rows of chunks joined with their documents. Passages of one document share its card."""
    cards: dict[Any, DocumentCard] = {}
    for row in rows:
        if row["document_id"] not in cards:
            cards[row["document_id"]] = _card_of(row)
    return [
        Passage(
            chunk_id=row["chunk_id"],
            document=cards[row["document_id"]],
            generation=row["generation"],
            n=row["n"],
            text=row["text"],
            after=row["after"],
            heading_path=tuple(row["heading_path"]),
            spans=_spans_of(row["spans"]),
            pages=_boxes_of(row["pages"]),
        )
        for row in rows
    ]


def _card_of(row: Row) -> DocumentCard:
    return DocumentCard(
        id=row["document_id"],
        filename=row["filename"],
        title=row["title"],
        collection_ids=tuple(row["collection_ids"]),
        metadata=row["metadata"],
        created_at=row["created_at"],
    )


def spans_to_json(spans: Sequence[PageSpan]) -> list[list[int]]:
    """How spans are stored: [page, start, end]."""
    return [[span.page, span.start, span.end] for span in spans]


def boxes_to_json(pages: Sequence[PageBoxes]) -> list[list[Any]]:
    """How a chunk's places are stored: [page, width, height, boxes]."""
    return [[place.page, place.width, place.height, place.boxes] for place in pages]


def _spans_of(value: Sequence[Sequence[int]]) -> tuple[PageSpan, ...]:
    return tuple([PageSpan(page, start, end) for page, start, end in value])


def _boxes_of(value: Sequence[Any]) -> tuple[PageBoxes, ...]:
    """Numbers of boxes were written as floats, and are read as floats."""
    return tuple([PageBoxes(page, float(width), float(height), tuple([tuple(box) for box in boxes])) for page, width, height, boxes in value])


def lease_of(row: Row) -> Lease:
    """A row of docray.lease_job, or of a bulk run's lease, which knows of no reindex."""
    return Lease(
        tenant_id=row["tenant_id"],
        document_id=row["document_id"],
        generation=row["generation"],
        state=State(row["state"]),
        fence=row["fence"],
        attempt=row["attempt"],
        until=row["lease_until"],
        blob_key=row["blob_key"],
        filename=row["filename"],
        title=row["title"],
        size_bytes=row["size_bytes"],
        models=tuple(row.get("models") or ()),
        reindex_id=row.get("reindex_id"),
        source_generation=row.get("source_generation"),
    )


def purge_of(row: Row) -> Purge:
    """A row of docray.lease_purge."""
    return Purge(
        id=row["id"], tenant_id=row["tenant_id"], document_id=row["document_id"], generation=row["generation"], fence=row["fence"]
    )


def api_key_of(row: Row) -> ApiKey:
    """A row of docray.api_keys."""
    return ApiKey(
        id=row["id"],
        name=row["name"],
        scopes=frozenset(Scope(scope) for scope in row["scopes"]),
        prefix=row["prefix"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        last_used_at=row["last_used_at"],
        revoked_at=row["revoked_at"],
    )


def principal_of(row: Row) -> Principal:
    """A row of docray.find_api_key."""
    return Principal(
        kind="api_key",
        id=row["id"],
        name=row["name"],
        tenant_id=row["tenant_id"],
        tenant_name=row["tenant_name"],
        scopes=frozenset(Scope(scope) for scope in row["scopes"]),
        operator=row["operator"],
        user_id=row["user_id"],
    )


def tenant_of(row: Row) -> Tenant:
    """A row of docray.tenants."""
    return Tenant(id=row["tenant_id"], name=row["name"], created_at=row["created_at"], corpus_epoch=row["corpus_epoch"])
