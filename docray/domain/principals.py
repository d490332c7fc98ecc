"""Who is asking: the principal that every request has, its tenant and its scopes."""

import enum
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


class Scope(enum.StrEnum):
    """What a credential may do."""

    SEARCH = "search"
    ASK = "ask"
    INGEST = "ingest"  # writes to documents and collections, deletes too
    ADMIN = "admin"  # all of them, and keys
    MCP = "mcp"


READING = frozenset({Scope.SEARCH, Scope.ASK, Scope.INGEST})
"""Any of these reads documents, pages and collections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A caller: `kind` is `api_key` here (`user` with the identity issue) or `worker` for docray's own processes."""

    kind: str
    id: UUID
    name: str | None
    tenant_id: UUID
    tenant_name: str
    scopes: frozenset[Scope]
    operator: bool = False
    user_id: UUID | None = None

    def may(self, *any_of: Scope) -> bool:
        """Whether one of the scopes, or admin, is held."""
        return Scope.ADMIN in self.scopes or not self.scopes.isdisjoint(any_of)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A customer whose data nobody else sees. `corpus_epoch` grows with every publish, delete and change of access."""

    id: UUID
    name: str
    created_at: datetime
    corpus_epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A machine's credential without its secret. `prefix` is the secret's beginning, for people to tell keys apart."""

    id: UUID
    name: str
    scopes: frozenset[Scope]
    prefix: str
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None
