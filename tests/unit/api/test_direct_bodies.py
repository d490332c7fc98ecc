"""Which endpoints get a right body without FastAPI's dependencies."""

import inspect
from typing import Annotated

import pytest
from fastapi import Header
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from docray.api.calls import Reading, Writing, writing
from docray.api.routes import search
from docray.api.routing import ContractRoute, make_router, needs
from docray.api.schemas.questions import SearchBody
from docray.security.scopes import SIGNED_IN


def the_route(router) -> ContractRoute:
    (route,) = [route for route in router.routes if isinstance(route, APIRoute)]
    assert isinstance(route, ContractRoute)
    return route


def test_a_search_gets_its_body_directly():
    assert the_route(search.router)._only_model() is SearchBody


async def with_query(call: Writing, body: SearchBody, item: int = 1) -> Response: ...


async def with_header(call: Writing, body: SearchBody, item: Annotated[str, Header()]) -> Response: ...


async def with_request(call: Writing, body: SearchBody, request: Request) -> Response: ...


async def only_reading(call: Reading, body: SearchBody) -> Response: ...


@pytest.mark.parametrize("endpoint", [with_query, with_header, with_request, only_reading])
def test_an_endpoint_that_asks_for_something_else_does_not(endpoint):
    router = make_router("x")
    router.post("/x")(needs(SIGNED_IN)(endpoint))
    assert the_route(router)._only_model() is None


def test_what_the_shortcut_knows_of_a_call_is_what_a_call_needs():
    assert list(inspect.signature(writing).parameters) == ["request", "idempotency_key"]
