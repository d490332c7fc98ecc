"""Requests under an Idempotency-Key: one effect, one answer, however often they are sent.

A claim is taken before the work begins and extended while it runs. A write stores its answer in the transaction of its effect
(`Remember`); search and ask, which have none, store it when it is complete. What fails gives the key free.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import orjson
from starlette.responses import Response

from docray.api.calls import Call
from docray.domain.catalog import Transaction
from docray.domain.errors import DocrayError
from docray.domain.idempotency import IdempotencyClaim, IdempotencyStore
from docray.domain.jobs import StoredResponse

_EXTEND_PERIOD_S = 20.0  # a claim that was not extended for 60 s may be taken over

Remember = Callable[[Transaction, StoredResponse], Awaitable[StoredResponse]]
"""Stores the answer with its effect, inside the transaction, and gives it back."""


def reply(status: int, body: bytes, headers: tuple[tuple[str, str], ...] = (), content_type: str = "application/json") -> StoredResponse:
    """An answer that may be kept."""
    return StoredResponse(status=status, body=body, content_type=content_type, headers=headers)


def respond(answer: StoredResponse, *, replayed: bool = False) -> Response:
    """The HTTP response for an answer."""
    headers = dict(answer.headers)
    if replayed:
        headers["Idempotent-Replayed"] = "true"
    return Response(answer.body or None, answer.status, headers, answer.content_type if answer.body else None)


async def once(call: Call, work: Callable[[Remember], Awaitable[StoredResponse]], extra: Any = None) -> Response:
    """Runs a write, or gives its first answer again. `extra` are parsed fields beyond body and query (an upload's)."""
    if call.idempotency_key is None:
        return respond(await work(_keep_nothing))
    claim = await claim_for(call, extra)
    if isinstance(claim, StoredResponse):
        return respond(claim, replayed=True)

    async def remember(tx: Transaction, answer: StoredResponse) -> StoredResponse:
        await tx.remember(claim, answer)
        return answer

    async with held(call.services.idempotency, claim):
        return respond(await work(remember))


async def once_computed(call: Call, work: Callable[[], Awaitable[StoredResponse]]) -> Response:
    """The same for a request without an effect."""
    if call.idempotency_key is None:
        return respond(await work())
    claim = await claim_for(call)
    if isinstance(claim, StoredResponse):
        return respond(claim, replayed=True)
    async with held(call.services.idempotency, claim):
        answer = await work()
        await call.services.idempotency.finish(claim, answer)
    return respond(answer)


async def claim_for(call: Call, extra: Any = None) -> IdempotencyClaim | StoredResponse:
    """The right to run this request, or its stored answer. The call has a key."""
    assert call.idempotency_key is not None
    path = call.request.url.path
    fields = [call.request.method, path, call.fields, extra]
    fingerprint = hashlib.sha256(orjson.dumps(fields, default=str, option=orjson.OPT_SORT_KEYS)).digest()
    return await call.services.idempotency.claim(call.principal, path, call.idempotency_key, fingerprint)


@contextlib.asynccontextmanager
async def held(store: IdempotencyStore, claim: IdempotencyClaim) -> AsyncIterator[None]:
    """Keeps the claim while the block runs; an error or a cancellation gives it free."""
    extending = asyncio.create_task(_extend(store, claim))
    try:
        yield
    except BaseException:
        with contextlib.suppress(DocrayError):
            await asyncio.shield(store.release(claim))
        raise
    finally:
        extending.cancel()


async def _extend(store: IdempotencyStore, claim: IdempotencyClaim) -> None:
    while True:
        await asyncio.sleep(_EXTEND_PERIOD_S)
        with contextlib.suppress(DocrayError):  # the next one may succeed; if none does, `remember` tells
            await store.extend(claim)


async def _keep_nothing(_: Transaction, answer: StoredResponse) -> StoredResponse:
    return answer
