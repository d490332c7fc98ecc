"""Keys, tenants and oneself."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from docray.api.schemas.fields import Body, Name, Object, Time

ScopeName = Literal["search", "ask", "ingest", "admin", "mcp"]


class NewApiKey(Body):
    """A key to be made."""

    name: Name
    scopes: list[ScopeName] = Field(min_length=1, max_length=20)
    expires_at: Time | None = None


class NewTenant(Body):
    """A tenant to be made."""

    name: Name


class ApiKey(Object):
    """A key without its secret; `prefix` is the secret's beginning."""

    id: UUID
    object: Literal["api_key"]
    name: str
    scopes: list[ScopeName]
    prefix: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class ApiKeyWithSecret(ApiKey):
    """A new key. Its secret is shown only here."""

    secret: str


class ApiKeyList(Object):
    """Keys, newest first."""

    object: Literal["list"]
    data: list[ApiKey]
    has_more: bool
    next_cursor: str | None


class Tenant(Object):
    """A new tenant with its admin's key."""

    id: UUID
    object: Literal["tenant"]
    name: str
    created_at: datetime
    api_key: ApiKeyWithSecret


class MePrincipal(Object):
    """Who asks."""

    type: str
    id: str
    name: str | None


class MeTenant(Object):
    """For whom."""

    id: UUID
    name: str


class MeLimits(Object):
    """Null where unlimited."""

    max_document_bytes: int | None
    max_pages: int | None
    extract_time_s: float | None
    extract_memory_bytes: int | None
    requests_per_minute: int | None


class Me(Object):
    """The caller, and the limits in force."""

    principal: MePrincipal
    tenant: MeTenant
    scopes: list[ScopeName]
    limits: MeLimits
