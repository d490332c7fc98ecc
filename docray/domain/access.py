"""Whose secret a secret is, and which tenants there are: asked before a tenant is known, or above them."""

from typing import Protocol

from docray.domain.principals import ApiKey, Principal, Tenant


class Credentials(Protocol):
    """Finds who a secret belongs to, before any tenant is known."""

    async def find(self, secret_hash: bytes) -> Principal | None:
        """The principal of a live key, None for absent, expired and revoked alike. Notes its use at most once a minute."""
        ...


class Tenants(Protocol):
    """The platform operator's view."""

    async def create(self, tenant: Tenant, key: ApiKey, secret_hash: bytes, *, operator: bool) -> Tenant:
        """A tenant with its first user and admin key. DuplicateName when the name is taken."""
        ...

    async def find_by_name(self, name: str) -> Tenant | None: ...
