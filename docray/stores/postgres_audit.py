"""The audit log and the record of usage: written in the transaction of what they tell, by roles that cannot read or change them."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from docray.stores.postgres import Connection
from docray.stores.sql import load

_SQL = load("audit")


async def record(
    connection: Connection, tenant_id: UUID, who: tuple[str, UUID | None], action: str, what: tuple[str, UUID | None],
    details: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """One row of the audit log: who (kind, id) did what (kind, id)."""
    await connection.execute(_SQL["insert"], tenant_id, *who, action, *what, dict(details or {}))


async def record_usage(
    connection: Connection, tenant_id: UUID, kind: str, document_id: UUID, generation: int, *, pages: int, chunks: int, size_bytes: int
) -> None:
    """One row of usage."""
    await connection.execute(_SQL["insert_usage"], tenant_id, kind, document_id, generation, pages, chunks, size_bytes)
