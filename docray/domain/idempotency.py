"""Requests that a client repeats under one Idempotency-Key: the claim of the one that runs, and where answers are kept."""

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from docray.domain.jobs import StoredResponse
from docray.domain.principals import Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyClaim:
    """The right to execute one request under an Idempotency-Key."""

    principal: Principal
    route: str
    key: str
    token: UUID


class IdempotencyStore(Protocol):
    """Keys of idempotent requests: per tenant, principal and path, kept for 24 h."""

    async def claim(self, principal: Principal, route: str, key: str, fingerprint: bytes) -> IdempotencyClaim | StoredResponse:
        """The claim, or the stored answer. IdempotencyInProgress while another runs; IdempotencyKeyReused for another fingerprint.

        An upload claims after its bytes are staged and hashed: until then nothing has taken effect. A claim that was not extended
        for 60 s (its process died) may be taken over; `remember` then fails for the former holder, so that the effect is one.
        """
        ...

    async def extend(self, claim: IdempotencyClaim) -> None:
        """Keeps a long request's claim alive."""
        ...

    async def finish(self, claim: IdempotencyClaim, response: StoredResponse) -> None:
        """Stores the answer of a request without effects in the database (search, ask)."""
        ...

    async def release(self, claim: IdempotencyClaim) -> None:
        """The request failed and did nothing: the key is free again."""
        ...
