"""Identifiers. New rows get UUID version 7 (they sort by time); chunks get a version 5 that the same bytes always give again."""

import uuid

import uuid_utils.compat

_CHUNKS = uuid.UUID("6f1c2f0e-7d0a-5a55-9c2e-3b1f5a0d7e11")


def new_id() -> uuid.UUID:
    """A UUIDv7, growing within this process."""
    return uuid_utils.compat.uuid7()


def chunk_id(tenant_id: uuid.UUID, document_id: uuid.UUID, generation: int, n: int) -> uuid.UUID:
    """The id of a chunk, its vector and its keywords: deterministic, so that at-least-once writes look exactly-once."""
    return uuid.uuid5(_CHUNKS, f"{tenant_id}/{document_id}/{generation}/{n}")


def blob_key(tenant_id: uuid.UUID, document_id: uuid.UUID, generation: int) -> str:
    """Where a generation's PDF lies in the blob store."""
    return f"{tenant_id}/{document_id}/{generation}.pdf"


def parse_id(text: str) -> uuid.UUID | None:
    """A UUID in its canonical form, or None."""
    try:
        value = uuid.UUID(text)
    except (ValueError, AttributeError, TypeError):
        return None
    return value if str(value) == text.lower() else None
