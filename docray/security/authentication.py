"""From the `Authorization` header to a principal, with a short memory so that a burst of requests asks the database once.

A key found is believed for 2 s, a wrong one refused for 1 s: a revoked key stops working well within the 5 s that the contract allows.
Leaves finding keys to the port `Credentials`, what a principal may do to `docray.security.scopes`.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from docray.domain.access import Credentials
from docray.domain.errors import InvalidCredentials, MissingCredentials
from docray.domain.principals import Principal
from docray.security.api_keys import hash_of, looks_like_secret


@dataclass(frozen=True, slots=True)
class _Remembered:
    principal: Principal | None
    until: float


class Authenticator:
    """Finds principals. Times in seconds of `clock`; at most `capacity` secrets of each kind, right and wrong, are remembered."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        found_s: float = 2.0,
        wrong_s: float = 1.0,
        capacity: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._credentials = credentials
        self._found_s = found_s
        self._wrong_s = wrong_s
        self._capacity = capacity
        self._clock = clock
        self._right: dict[bytes, _Remembered] = {}
        self._wrong: dict[bytes, _Remembered] = {}
        self._looking: dict[bytes, asyncio.Task[Principal | None]] = {}

    async def authenticate(self, authorization: str | None) -> Principal:
        """The principal of a bearer token. MissingCredentials without one, InvalidCredentials for every kind of wrong one."""
        kind, _, token = (authorization or "").strip().partition(" ")
        token = token.strip()
        if kind.lower() != "bearer" or not token:
            raise MissingCredentials
        principal = await self._find(hash_of(token)) if looks_like_secret(token) else None
        if principal is None:
            raise InvalidCredentials
        return principal

    def forget(self, principal_id: UUID) -> None:
        """Forgets a principal whose key was revoked in this process."""
        for secret_hash in [key for key, known in self._right.items() if known.principal and known.principal.id == principal_id]:
            del self._right[secret_hash]

    async def _find(self, secret_hash: bytes) -> Principal | None:
        known = self._right.get(secret_hash) or self._wrong.get(secret_hash)
        if known and known.until > self._clock():
            return known.principal
        looking = self._looking.get(secret_hash)
        if looking is None:
            looking = self._looking[secret_hash] = asyncio.create_task(self._look(secret_hash))
            looking.add_done_callback(lambda task: self._looked(secret_hash, task))
        return await asyncio.shield(looking)  # one caller that goes away does not take the answer from the others

    async def _look(self, secret_hash: bytes) -> Principal | None:
        asked_at = self._clock()  # the time counts from before the question, not from its answer
        principal = await self._credentials.find(secret_hash)
        self._right.pop(secret_hash, None)
        memory, seconds = (self._right, self._found_s) if principal else (self._wrong, self._wrong_s)
        memory[secret_hash] = _Remembered(principal, asked_at + seconds)
        while len(memory) > self._capacity:
            del memory[next(iter(memory))]
        return principal

    def _looked(self, secret_hash: bytes, task: asyncio.Task[Principal | None]) -> None:
        self._looking.pop(secret_hash, None)
        if not task.cancelled():
            task.exception()  # whoever waited got it; nobody may be left to
