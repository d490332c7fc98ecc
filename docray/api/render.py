"""Domain values → JSON, by hand: no model is built on the way, because a search answers in milliseconds."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from docray.domain.bulk import BulkRun
from docray.domain.catalog import Listing
from docray.domain.documents import Collection, Document, Failure, Membership, Page, PageBoxes, Progress, Replacement
from docray.domain.principals import ApiKey, Principal, Tenant
from docray.domain.questions import Answer, Citation, DocumentCard, Hit, SearchResults
from docray.domain.reindexes import Reindex
from docray.settings import Settings

Json = dict[str, Any]


def dumps(value: Any) -> bytes:
    """JSON in UTF-8. UUIDs become strings."""
    return orjson.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, UUID):  # the database driver's own kind, which orjson does not know
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, int):  # beyond 64 bits
        return float(value)
    raise TypeError(type(value).__name__)


def time(value: datetime | None) -> str | None:
    """RFC 3339 in UTC, always with microseconds, so that texts sort as times do."""
    return None if value is None else value.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def listing(found: Listing[Any], one: Any) -> bytes:
    """A page of a list; `one` renders a row."""
    return dumps(
        {
            "object": "list",
            "data": [one(item) for item in found.items],
            "has_more": found.next_cursor is not None,
            "next_cursor": found.next_cursor,
        }
    )


# --- documents -----------------------------------------------------------------------------------------------------------


def document(value: Document) -> Json:
    """A document as its owner sees it."""
    return {
        "id": value.id,
        "object": "document",
        "collection_ids": value.collection_ids,
        "filename": value.filename,
        "title": value.title,
        "sha256": value.sha256,
        "size_bytes": value.size_bytes,
        "page_count": value.page_count,
        "chunk_count": value.chunk_count,
        "generation": value.generation,
        "state": value.state,
        "progress": _progress(value.progress),
        "failure": _failure(value.failure),
        "replacement": _replacement(value.replacement),
        "metadata": value.metadata,
        "created_at": time(value.created_at),
        "updated_at": time(value.updated_at),
        "ready_at": time(value.ready_at),
    }


def job(value: BulkRun) -> Json:
    """A bulk run as a job."""
    return {
        "id": value.id,
        "object": "job",
        "kind": "bulk_ingest",
        "source": value.source,
        "collection_id": value.collection_id,
        "state": value.state,
        "error": None if value.error_code is None else {"code": value.error_code, "message": value.error_message},
        "files": {
            "total": value.files, "ended": value.ended, "ready": value.ready, "failed": value.failed, "duplicate": value.duplicate,
            "known": value.known,
        },
        "pages": value.pages,
        "chunks": value.chunks,
        "size_bytes": value.size_bytes,
        "seconds": round(value.seconds, 3),
        "pages_per_s": None if value.pages_per_s is None else round(value.pages_per_s, 3),
        "seconds_left": None if value.seconds_left is None else round(value.seconds_left, 1),
        "pace": round(value.pace, 2),
        "created_at": time(value.created_at),
        "updated_at": time(value.updated_at),
        "ended_at": time(value.ended_at),
    }  # fmt: skip


def reindex(value: Reindex) -> Json:
    """A reindex; counts where they were counted."""
    counts = value.counts
    return {
        "id": value.id,
        "object": "reindex",
        "state": value.state,
        "switch": value.switch,
        "collection_id": value.collection_id,
        "model": value.form.model,
        "model_before": value.model_before,
        "documents": None if counts is None else {
            "total": counts.total, "done": counts.done, "built": counts.built, "failed": counts.failed, "waiting": counts.waiting,
        },
        "pages": None if counts is None else {"total": counts.pages_total, "done": counts.pages_done},
        "created_at": time(value.created_at),
        "switched_at": time(value.switched_at),
        "ended_at": time(value.ended_at),
    }  # fmt: skip


def _progress(value: Progress) -> Json:
    return {"stage": value.stage, "pages_done": value.pages_done, "pages_total": value.pages_total}


def _failure(value: Failure | None) -> Json | None:
    return None if value is None else {"code": value.code, "message": value.message, "retryable": value.retryable}


def _replacement(value: Replacement | None) -> Json | None:
    if value is None:
        return None
    return {
        "generation": value.generation,
        "state": value.state,
        "progress": _progress(value.progress),
        "failure": _failure(value.failure),
    }


def deleted(object_id: UUID, kind: str) -> Json:
    """What DELETE answers."""
    return {"id": object_id, "object": kind, "deleted": True}


def page(value: Page) -> Json:
    """A page with its words as they stand."""
    return {
        "page": value.number,
        "width": value.width,
        "height": value.height,
        "rotation": value.rotation,
        "text": value.text,
        "words": [{"text": word.text, "bbox": word.box} for word in value.words],
    }


def collection(value: Collection) -> Json:
    """A collection."""
    return {
        "id": value.id,
        "object": "collection",
        "name": value.name,
        "description": value.description,
        "metadata": value.metadata,
        "document_count": value.document_count,
        "created_at": time(value.created_at),
    }


def membership(value: Membership) -> Json:
    """A document in a collection."""
    return {
        "object": "collection_document",
        "collection_id": value.collection_id,
        "document_id": value.document_id,
        "attributes": value.attributes,
        "added_at": time(value.added_at),
    }


# --- questions -----------------------------------------------------------------------------------------------------------


def search_results(value: SearchResults) -> Json:
    """What a search found."""
    return {
        "object": "search_results",
        "query": value.query,
        "results": [hit(found) for found in value.hits],
        "degraded": value.degraded,
        "timings_ms": value.timings_ms,
    }


def hit(value: Hit) -> Json:
    """One result."""
    return {
        "rank": value.rank,
        "score": value.score,
        "scores": {"dense": value.dense, "keyword": value.keyword, "rerank": value.rerank},
        "chunk_id": value.chunk_id,
        "document": _card(value.document),
        "generation": value.generation,
        "text": value.text,
        "snippet": value.snippet,
        "heading_path": value.heading_path,
        "pages": _places(value.pages),
    }


def _card(value: DocumentCard) -> Json:
    return {
        "id": value.id,
        "filename": value.filename,
        "title": value.title,
        "collection_ids": value.collection_ids,
        "metadata": value.metadata,
    }


def _places(values: Sequence[PageBoxes]) -> list[Json]:
    return [{"page": place.page, "width": place.width, "height": place.height, "bboxes": place.boxes} for place in values]


def citation(value: Citation) -> Json:
    """What supports a sentence of an answer."""
    return {
        "index": value.index,
        "span": value.span,
        "quote": value.quote,
        "chunk_id": value.chunk_id,
        "document": {"id": value.document.id, "filename": value.document.filename, "title": value.document.title},
        "page": value.page,
        "width": value.width,
        "height": value.height,
        "bboxes": value.boxes,
    }


def answer(value: Answer) -> Json:
    """A whole answer."""
    return {
        "id": value.id,
        "object": "answer",
        "answer": value.answer,
        "refused": value.refused,
        "refusal_reason": value.refusal_reason,
        "citations": [citation(cited) for cited in value.citations],
        "search_results": [hit(found) for found in value.search_results.hits],
        "model": value.model,
        "usage": {
            "prompt_tokens": value.usage.prompt_tokens,
            "completion_tokens": value.usage.completion_tokens,
            "cost_usd": value.usage.cost_usd,
        },
        "degraded": value.degraded,
        "timings_ms": value.timings_ms,
        "conversation_id": value.conversation_id,
    }


# --- machines and people -------------------------------------------------------------------------------------------------


def api_key(value: ApiKey, secret: str | None = None) -> Json:
    """A key; with its secret only where it was made."""
    return {
        "id": value.id,
        "object": "api_key",
        "name": value.name,
        "scopes": sorted(value.scopes),
        "prefix": value.prefix,
        "created_at": time(value.created_at),
        "expires_at": time(value.expires_at),
        "last_used_at": time(value.last_used_at),
        "revoked_at": time(value.revoked_at),
        **({"secret": secret} if secret is not None else {}),
    }


def tenant(value: Tenant, key: ApiKey, secret: str) -> Json:
    """A new tenant with its first key."""
    return {
        "id": value.id,
        "object": "tenant",
        "name": value.name,
        "created_at": time(value.created_at),
        "api_key": api_key(key, secret),
    }


def me(principal: Principal, settings: Settings) -> Json:
    """Who asks, and the limits in force."""
    return {
        "principal": {"type": principal.kind, "id": principal.id, "name": principal.name},
        "tenant": {"id": principal.tenant_id, "name": principal.tenant_name},
        "scopes": sorted(principal.scopes),
        "limits": {
            "max_document_bytes": settings.max_document_bytes,
            "max_pages": settings.max_pages,
            "extract_time_s": settings.extract_time_s,
            "extract_memory_bytes": settings.extract_memory_bytes,
            "requests_per_minute": settings.requests_per_minute,
        },
    }
