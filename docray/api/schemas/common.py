"""What every part of the contract shares: the error, deletions, readiness."""

from typing import Literal
from uuid import UUID

from pydantic import Field

from docray.api.schemas.fields import Object


class ErrorDetail(Object):
    """What went wrong, and what to do."""

    type: Literal[
        "invalid_request", "authentication", "permission", "not_found", "conflict", "too_large", "unsupported_media", "rate_limit",
        "internal", "unavailable",
    ]  # fmt: skip
    code: Literal[
        "malformed_json", "malformed_multipart", "invalid_field", "idempotency_key_reused", "method_not_allowed", "range_not_satisfiable",
        "missing_credentials", "invalid_credentials", "insufficient_scope", "not_found", "idempotency_in_progress", "not_failed",
        "duplicate_name", "reindex_under_way", "reindex_not_built", "reindex_not_switched", "reindex_ended", "precondition_failed", "too_large",
        "not_a_pdf", "unsupported_content_type", "rate_limited", "overloaded",
        "unavailable", "internal",
    ]  # fmt: skip
    message: str
    param: str | None = Field(description="The dotted path of the field, such as `filter.page.near`")
    request_id: str
    retryable: bool


class Error(Object):
    """The one shape of every error."""

    error: ErrorDetail


class Alive(Object):
    """The process lives."""

    status: Literal["ok"]


class Check(Object):
    """One dependency."""

    ok: bool
    latency_ms: float | None
    detail: str | None


class Ready(Object):
    """Whether it can serve."""

    status: Literal["ok", "degraded", "unavailable"]
    checks: dict[str, Check]


class NotReady(Ready):
    """It cannot serve: which check failed, and the error as everywhere."""

    error: ErrorDetail


class DeletedDocument(Object):
    """What DELETE of a document answers."""

    id: UUID
    object: Literal["document"]
    deleted: Literal[True]


class DeletedCollection(Object):
    """What DELETE of a collection answers."""

    id: UUID
    object: Literal["collection"]
    deleted: Literal[True]
