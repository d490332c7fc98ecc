"""Idempotency keys: a claim on executing a request, then its answer, stored with its effect."""

import uuid

from docray.domain.errors import IdempotencyInProgress, IdempotencyKeyReused, LostLease
from docray.domain.idempotency import IdempotencyClaim
from docray.domain.jobs import StoredResponse
from docray.domain.principals import Principal
from docray.stores.postgres import Connection, Database
from docray.stores.sql import load

_SQL = load("idempotency")
CLAIM_S = 60.0
_RETRY_AFTER_S = 1.0


class PostgresIdempotency:
    """`docray.domain.idempotency.IdempotencyStore`."""

    def __init__(self, database: Database, *, keep_s: float = 24 * 3600.0) -> None:
        self._database = database
        self._keep_s = keep_s

    async def claim(self, principal: Principal, route: str, key: str, fingerprint: bytes) -> IdempotencyClaim | StoredResponse:
        """The claim, or the stored answer. IdempotencyInProgress while another runs; IdempotencyKeyReused for another fingerprint."""
        claim = IdempotencyClaim(principal=principal, route=route, key=key, token=uuid.uuid4())
        async with self._database.tenant_tx(principal.tenant_id) as connection:
            given = (principal.tenant_id, principal.id, route, key, fingerprint, claim.token, CLAIM_S, self._keep_s)
            if await connection.fetchval(_SQL["claim"], *given) is not None:
                return claim
            row = await connection.fetchrow(_SQL["get"], principal.id, route, key)
        if row is None:  # released between the two statements
            raise IdempotencyInProgress(retry_after_s=_RETRY_AFTER_S)
        if row["fingerprint"] != fingerprint:
            raise IdempotencyKeyReused(param="Idempotency-Key")
        if row["status"] is None:
            raise IdempotencyInProgress(retry_after_s=_RETRY_AFTER_S)
        headers = tuple((name, value) for name, value in row["headers"])
        return StoredResponse(status=row["status"], body=row["body"], content_type=row["content_type"], headers=headers)

    async def extend(self, claim: IdempotencyClaim) -> None:
        """Keeps a long request's claim alive. LostLease when it was taken over."""
        async with self._database.tenant_tx(claim.principal.tenant_id) as connection:
            if await connection.fetchval(_SQL["extend"], *_identity(claim), CLAIM_S) is None:
                raise LostLease

    async def finish(self, claim: IdempotencyClaim, response: StoredResponse) -> None:
        """Stores the answer of a request without effects in the database. Nothing happens when the claim was taken over."""
        async with self._database.tenant_tx(claim.principal.tenant_id) as connection:
            await _store(connection, claim, response)

    async def release(self, claim: IdempotencyClaim) -> None:
        """The request failed and did nothing: the key is free again."""
        async with self._database.tenant_tx(claim.principal.tenant_id) as connection:
            await connection.execute(_SQL["release"], *_identity(claim))


async def remember(connection: Connection, claim: IdempotencyClaim, response: StoredResponse) -> None:
    """Stores the answer in the transaction of its effect. LostLease, and so no effect, when the claim was taken over."""
    if not await _store(connection, claim, response):
        raise LostLease


async def _store(connection: Connection, claim: IdempotencyClaim, response: StoredResponse) -> bool:
    given = (response.status, response.content_type, list(response.headers), response.body)
    return await connection.fetchval(_SQL["store"], *_identity(claim), *given) is not None


def _identity(claim: IdempotencyClaim) -> tuple[uuid.UUID, str, str, uuid.UUID]:
    return claim.principal.id, claim.route, claim.key, claim.token
