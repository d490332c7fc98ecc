"""API keys of a tenant, whom a secret belongs to, and the operator's view of tenants."""

from uuid import UUID

from docray.domain.catalog import Listing, Paging
from docray.domain.errors import NotFound
from docray.domain.ids import new_id
from docray.domain.principals import ApiKey, Principal, Tenant
from docray.stores import cursors
from docray.stores.postgres import Database
from docray.stores.postgres_session import Session
from docray.stores.rows import api_key_of, principal_of, tenant_of
from docray.stores.sql import load

_SQL = load("keys")
_TENANTS = load("tenants")
_LIST = "k"


class PostgresApiKeys:
    """`docray.domain.catalog.ApiKeys` inside one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._connection = session.connection

    async def insert(self, key: ApiKey, secret_hash: bytes, *, operator: bool = False, user_id: UUID | None = None) -> ApiKey:
        """The key as it is stored; its `created_at` is the database's."""
        [row] = await self._connection.fetch(
            _SQL["insert"], self._session.tenant_id, key.id, user_id, key.name, sorted(key.scopes), operator, key.prefix, secret_hash,
            key.expires_at,
        )  # fmt: skip
        return api_key_of(row)

    async def get(self, key_id: UUID) -> ApiKey:
        """NotFound when absent."""
        return await self._one("get", key_id)

    async def list(self, paging: Paging) -> Listing[ApiKey]:
        """Newest first, revoked ones too."""
        rows = await self._connection.fetch(_SQL["list"], *cursors.decode(_LIST, paging.after), paging.limit + 1)
        return cursors.page_of(_LIST, rows, [api_key_of(row) for row in rows], paging, at="created_at")

    async def revoke(self, key_id: UUID) -> ApiKey:
        """The key with `revoked_at`; again gives the same. NotFound when absent."""
        return await self._one("revoke", key_id)

    async def _one(self, query: str, key_id: UUID) -> ApiKey:
        row = await self._connection.fetchrow(_SQL[query], key_id)
        if row is None:
            raise NotFound
        return api_key_of(row)


class PostgresCredentials:
    """`docray.domain.access.Credentials`: one round trip."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, secret_hash: bytes) -> Principal | None:
        """The principal of a live key, None for absent, expired and revoked alike. Notes its use at most once a minute."""
        rows = await self._database.call(_SQL["find"], secret_hash)
        return principal_of(rows[0]) if rows else None


class PostgresTenants:
    """`docray.domain.access.Tenants`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, tenant: Tenant, key: ApiKey, secret_hash: bytes, *, operator: bool) -> Tenant:
        """A tenant with its first user and admin key. DuplicateName when the name is taken."""
        rows = await self._database.call(
            _TENANTS["create"], tenant.id, tenant.name, new_id(), key.id, key.name, sorted(key.scopes), operator, key.prefix, secret_hash,
            key.expires_at,
        )  # fmt: skip
        return Tenant(id=tenant.id, name=tenant.name, created_at=rows[0][0])

    async def find_by_name(self, name: str) -> Tenant | None:
        """The tenant of that name."""
        rows = await self._database.call(_TENANTS["find"], name)
        return tenant_of(rows[0]) if rows else None
