"""What an endpoint gets of a request: who asks, the app's parts, and for writes the idempotency key."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Header
from starlette.requests import Request

from docray.api.json_bodies import JsonRequest
from docray.api.services import Parts, Services
from docray.domain.catalog import Transaction
from docray.domain.principals import Principal

IDEMPOTENCY_KEY = "Idempotency-Key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One authenticated request."""

    request: Request
    principal: Principal
    parts: Parts
    idempotency_key: str | None = None

    @property
    def services(self) -> Services:
        """The ports and services."""
        return self.parts.services

    @property
    def fields(self) -> dict[str, Any]:
        """What was asked, parsed: the JSON body and the query parameters."""
        body = self.request.value if isinstance(self.request, JsonRequest) else None
        return {"body": body, "query": sorted(self.request.query_params.multi_items())}

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """A transaction of the caller's tenant."""
        return self.parts.services.catalog.transaction(self.principal)


async def reading(request: Request) -> Call:
    """A call that changes nothing."""
    return Call(request=request, principal=request.scope["state"]["principal"], parts=request.app.state.parts)


async def writing(
    request: Request,
    idempotency_key: Annotated[
        str | None,
        Header(
            alias=IDEMPOTENCY_KEY,
            min_length=1,
            max_length=255,
            description="The same key with the same request gets the first answer again, with `Idempotent-Replayed: true`, for 24 h.",
        ),
    ] = None,
) -> Call:
    """A call with an effect, or a POST."""
    return Call(
        request=request, principal=request.scope["state"]["principal"], parts=request.app.state.parts, idempotency_key=idempotency_key
    )


Reading = Annotated[Call, Depends(reading)]
Writing = Annotated[Call, Depends(writing)]
