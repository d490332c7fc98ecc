"""The one route class: what holds for every call is held here, before the call's own code runs.

In this order: credentials (401), rate (429), scope (403), query parameters that the call does not know (422), the body's type and
syntax (415, 413, 400). Then FastAPI checks path, query and body against the endpoint's signature, and the endpoint runs. Where the signature
is a call and a body and nothing else, a body that is right goes straight to the endpoint: FastAPI's own way costs a tenth of a search.
"""

import inspect
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import APIRouter
from fastapi.dependencies.utils import get_flat_dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from docray.api.calls import IDEMPOTENCY_KEY, writing
from docray.api.json_bodies import JsonRequest, read_json
from docray.api.openapi import BEARER, errors
from docray.api.services import Parts
from docray.domain.errors import InvalidField
from docray.security.scopes import Access

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
F = TypeVar("F", bound=Callable[..., Any])
_RULES = "__docray_rules__"


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a call asks for. `access` None: no key. `query` and `query_prefixes`: parameters that its signature does not show."""

    access: Access | None = None
    query: frozenset[str] = frozenset()
    query_prefixes: tuple[str, ...] = ()


def needs(access: Access | None, *, query: frozenset[str] = frozenset(), query_prefixes: tuple[str, ...] = ()) -> Callable[[F], F]:
    """Marks an endpoint with its rules; every endpoint has them, there is no default."""

    def mark(endpoint: F) -> F:
        setattr(endpoint, _RULES, Rules(access=access, query=query, query_prefixes=query_prefixes))
        return endpoint

    return mark


def _rules_of(endpoint: Callable[..., Any]) -> Rules:
    rules: Rules = getattr(endpoint, _RULES)
    return rules


class ContractRoute(APIRoute):
    """A route of the contract. What every call may answer is added to its description (OpenAPI) here too."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        rules = _rules_of(endpoint)
        always = [429, 500, 503] if rules.access is None else [401, 403, 422, 429, 500, 503]
        if "{" in path:
            always.append(404)
        options["responses"] = {**errors(*always), **(options.get("responses") or {})}
        if rules.access is not None:
            options["openapi_extra"] = {**(options.get("openapi_extra") or {}), "security": [{BEARER: []}]}
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Handler:
        """The endpoint behind the rules that hold for every call."""
        rules = _rules_of(self.endpoint)
        known = rules.query | {field.alias for field in get_flat_dependant(self.dependant).query_params}
        takes_json = self.body_field is not None
        model = self._only_model()
        run = super().get_route_handler()

        async def handle(request: Request) -> Response:
            parts: Parts = request.app.state.parts
            if rules.access is not None:
                principal = await parts.authenticator.authenticate(request.headers.get("authorization"))
                request.scope["state"]["principal"] = principal
                parts.rates.take(principal.id)
                rules.access.check(principal)
            if request.scope["query_string"]:
                _refuse_unknown(request, known, rules.query_prefixes)
            if takes_json:
                request = await read_json(request, parts.services.settings.max_json_bytes)
                if model is not None and IDEMPOTENCY_KEY not in request.headers:
                    body = _checked(model, request)
                    if body is not None:
                        response: Response = await self.endpoint(await writing(request), body)
                        return response
            return await run(request)

        return handle

    def _only_model(self) -> type[BaseModel] | None:
        """The body's model of an endpoint of `(call: Writing, body: Model)`."""
        if list(inspect.signature(self.endpoint).parameters) != ["call", "body"] or self.dependant.dependencies[0].call is not writing:
            return None
        annotation = self.dependant.body_params[0].field_info.annotation
        return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _checked(model: type[BaseModel], request: JsonRequest) -> BaseModel | None:
    """The body as its model; None for one that is not right, which FastAPI is to describe."""
    try:
        return model.model_validate(request.value)
    except ValidationError:
        return None


def _refuse_unknown(request: Request, known: frozenset[str], prefixes: tuple[str, ...]) -> None:
    for name, value in request.query_params.multi_items():
        if name not in known and not name.startswith(prefixes):
            raise InvalidField("This query parameter is not known here. Leave it out.", name)
        if "\x00" in value or "\x00" in name:
            raise InvalidField("The value holds a NUL character. Leave it out.", name)


def make_router(tag: str) -> APIRouter:
    """A router for one part of the contract."""
    return APIRouter(route_class=ContractRoute, tags=[tag], redirect_slashes=False)
