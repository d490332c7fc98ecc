"""What holds for every request: credentials first, scopes, one error shape, request ids, unknown names, headers, limits of load."""

import asyncio
import re
from typing import Any

import httpx
import orjson
import pytest
from api_harness import Api, a_pdf, assert_error
from starlette.types import Receive, Scope, Send

from docray.api.app import create_app
from docray.api.middleware.request_context import RequestContext
from docray.domain.errors import DocrayError, NotFound, Unavailable
from docray.domain.ids import new_id

PUBLIC = {"/healthz", "/readyz", "/openapi.json", "/docs"}


def operations(api: Api) -> list[tuple[str, str, dict[str, Any]]]:
    """(method, path with placeholders, description) of every call."""
    paths = api.app.openapi()["paths"]
    return [(method.upper(), path, one) for path, methods in paths.items() for method, one in methods.items()]


async def test_every_call_asks_for_credentials_before_it_looks_at_anything_else(api: Api) -> None:
    async with api.client("") as anonymous:
        for method, path, _ in operations(api):
            if path in PUBLIC:
                continue
            for given in (str(new_id()), "not-an-id", "%00"):
                address = re.sub(r"\{[^}]+\}", given, path) + "?colour=1"
                response = await anonymous.request(method, address, content=b"{not json", headers={"Idempotency-Key": ""})
                assert_error(response, 401, "missing_credentials")
                assert response.headers["www-authenticate"] == "Bearer"


async def test_every_kind_of_wrong_credentials_is_refused_in_the_same_words(api: Api) -> None:
    messages = set()
    for token in ("wrong", api.secret[:-2] + "zz", "x" * 8000, "dr_" + "0" * 60, "é"):
        async with api.client("") as client:
            response = await client.get("/v1/documents", headers={"Authorization": f"Bearer {token}".encode()})
        assert_error(response, 401, "invalid_credentials")
        messages.add(response.json()["error"]["message"])
    assert len(messages) == 1


async def test_a_key_does_what_its_scopes_say_and_nothing_else(api: Api) -> None:
    document = await api.added()
    calls: dict[str, tuple[str, str, dict[str, Any]]] = {
        "search": ("POST", "/v1/search", {"json": {"query": "x"}}),
        "ask": ("POST", "/v1/ask", {"json": {"question": "x"}}),
        "read": ("GET", f"/v1/documents/{document['id']}", {}),
        "list": ("GET", "/v1/collections", {}),
        "upload": ("POST", "/v1/documents", {"files": {"file": ("a.pdf", a_pdf())}}),
        "collection": ("POST", "/v1/collections", {"json": {"name": f"c {new_id()}"}}),
        "patch": ("PATCH", f"/v1/documents/{document['id']}", {"json": {}}),
        "keys": ("GET", "/v1/api-keys", {}),
        "make key": ("POST", "/v1/api-keys", {"json": {"name": "x", "scopes": ["admin"]}}),
        "me": ("GET", "/v1/me", {}),
        "tenant": ("POST", "/v1/tenants", {"json": {"name": "x"}}),
        "delete": ("DELETE", f"/v1/documents/{document['id']}", {}),
    }
    allowed = {
        "search": {"search", "read", "list", "me"},
        "ask": {"ask", "read", "list", "me"},
        "ingest": {"read", "list", "upload", "collection", "patch", "delete", "me"},
        "mcp": {"me"},
    }
    for scope, names in allowed.items():
        async with api.client(await api.key(scope)) as client:
            for name, (method, path, options) in calls.items():
                if name == "delete" and scope == "ingest":
                    continue
                response = await client.request(method, path, **options)
                if name in names:
                    assert response.status_code < 300, (scope, name, response.text)
                else:
                    assert_error(response, 403, "insufficient_scope")
    async with api.client(await api.key("admin")) as client:
        assert_error(await client.post("/v1/tenants", json={"name": "x"}), 403, "insufficient_scope")
        assert (await client.delete(f"/v1/documents/{document['id']}")).status_code == 202


async def test_a_request_id_comes_back_or_is_made(api: Api) -> None:
    async with api.client() as client:
        for path in ("/v1/documents", "/healthz", "/v1/nothing-here", f"/v1/documents/{new_id()}"):
            assert (await client.get(path, headers={"X-Request-Id": "probe-1"})).headers.get_list("x-request-id") == ["probe-1"]
        assert (await client.get("/v1/documents", headers={"X-Request-Id": "y" * 128})).headers["x-request-id"] == "y" * 128
        made = set()
        for value in (b"x" * 129, b"a b", b"a\tb", b"\xc3\xa9t", b""):
            back = (await client.get("/v1/documents", headers={"X-Request-Id": value})).headers["x-request-id"]
            assert re.fullmatch(r"[!-~]{1,128}", back)
            made.add(back)
        assert len(made) == 5
        streamed = await client.post("/v1/ask", json={"question": "x", "stream": True}, headers={"X-Request-Id": "stream-1"})
        assert streamed.headers["x-request-id"] == "stream-1"


JSON = {"Content-Type": "application/json"}
FRAMEWORK_ERRORS: list[tuple[str, str, dict[str, Any], int, str]] = [
    ("GET", "/v1/nothing-here", {}, 404, "not_found"),
    ("GET", "/v1/documents/", {}, 404, "not_found"),
    ("GET", "/metrics", {}, 404, "not_found"),
    ("GET", "/redoc", {}, 404, "not_found"),
    ("DELETE", "/v1/search", {}, 405, "method_not_allowed"),
    ("PUT", "/v1/documents", {}, 405, "method_not_allowed"),
    ("GET", "/v1/documents/not-a-uuid", {}, 404, "not_found"),
    ("GET", "/v1/documents/" + "9" * 5000, {}, 404, "not_found"),
    ("GET", "/v1/documents/%00", {}, 404, "not_found"),
    ("GET", "/v1/documents/%ff", {}, 404, "not_found"),
    ("GET", "/v1/documents/..%2f..%2fetc%2fpasswd", {}, 404, "not_found"),
    ("GET", "/v1/documents/{01a20b03-f9d0-75f1-ab1c-12aece334a2c}", {}, 404, "not_found"),
    ("DELETE", "/v1/api-keys/not-a-uuid", {}, 404, "not_found"),
    ("PUT", f"/v1/collections/{new_id()}/documents/x", {"json": {}}, 404, "not_found"),
    ("POST", "/v1/search", {"content": b"{not json", "headers": JSON}, 400, "malformed_json"),
    ("POST", "/v1/search", {"content": b"\xff\xfe\x00", "headers": JSON}, 400, "malformed_json"),
    ("POST", "/v1/search", {"content": b"[" * 100_000, "headers": JSON}, 400, "malformed_json"),
    ("POST", "/v1/search", {"content": b"", "headers": JSON}, 422, "invalid_field"),
    ("POST", "/v1/search", {"content": b"x" * (2 << 20), "headers": JSON}, 413, "too_large"),
    ("POST", "/v1/search", {"json": []}, 422, "invalid_field"),
    ("POST", "/v1/search", {"content": b"query=x", "headers": {"Content-Type": "text/plain"}}, 415, "unsupported_content_type"),
]


async def test_errors_of_the_framework_have_the_error_shape(api: Api) -> None:
    for method, path, options, status, code in FRAMEWORK_ERRORS:
        response = await api.call(method, path, **options)
        assert_error(response, status, code)
    assert (await api.call("DELETE", "/v1/search")).headers["allow"] == "POST"
    assert (await api.call("PUT", "/v1/documents")).headers["allow"] == "GET, POST"


async def test_absent_and_foreign_ids_answer_the_same_bytes_but_the_request_id(api: Api) -> None:
    document = await api.added()
    other = (await api.call("POST", "/v1/tenants", json={"name": "other"})).json()["api_key"]["secret"]
    async with api.client(other) as client:
        headers = {"X-Request-Id": "same"}
        foreign = await client.get(f"/v1/documents/{document['id']}", headers=headers)
        absent = await client.get(f"/v1/documents/{new_id()}", headers=headers)
    assert_error(foreign, 404, "not_found")
    assert (foreign.content, foreign.headers) == (absent.content, absent.headers)


async def test_unknown_query_parameters_are_refused_on_every_call(api: Api) -> None:
    for method, path, _ in operations(api):
        if path in PUBLIC:
            continue
        address = re.sub(r"\{page\}", "1", path)
        address = re.sub(r"\{[^}]+\}", str(new_id()), address)
        assert_error(await api.call(method, address, params={"colour": "1"}), 422, "invalid_field", "colour")


BODIES: list[tuple[str, Any, str]] = [
    ("/v1/search", {"query": 5}, "query"), ("/v1/search", {}, "query"), ("/v1/search", {"query": ""}, "query"),
    ("/v1/search", {"query": "x" * 8001}, "query"), ("/v1/search", {"query": "\x00"}, "query"), ("/v1/search", {"query": "x", "limit": 0}, "limit"),
    ("/v1/search", {"query": "x", "limit": 101}, "limit"), ("/v1/search", {"query": "x", "limit": "5"}, "limit"),
    ("/v1/search", {"query": "x", "limit": 5.0}, "limit"), ("/v1/search", {"query": "x", "limit": True}, "limit"),
    ("/v1/search", {"query": "x", "mode": "magic"}, "mode"), ("/v1/search", {"query": "x", "rerank": "perhaps"}, "rerank"),
    ("/v1/search", {"query": "x", "merge_neighbours": 1}, "merge_neighbours"), ("/v1/search", {"query": "x", "filter": []}, "filter"),
    ("/v1/search", {"query": "x", "filter": {"colour": 1}}, "filter.colour"), ("/v1/search", {"query": "x", "document_ids": "all"}, "document_ids"),
    ("/v1/search", {"query": "x", "document_ids": ["x"]}, "document_ids.0"), ("/v1/search", {"query": "x", "colour": 1}, "colour"),
    ("/v1/ask", {"question": ["a"]}, "question"), ("/v1/ask", {}, "question"), ("/v1/ask", {"question": "x", "stream": "perhaps"}, "stream"),
    ("/v1/ask", {"question": "x", "mode": "telepathy"}, "mode"), ("/v1/ask", {"question": "x", "limit": 51}, "limit"),
    ("/v1/ask", {"question": "x", "model": "gpt-17"}, "model"), ("/v1/ask", {"question": "x", "conversation_id": "x"}, "conversation_id"),
    ("/v1/ask", {"question": "x", "temperature": -1}, "temperature"), ("/v1/ask", {"question": "x", "colour": 1}, "colour"),
    ("/v1/collections", {"name": 7}, "name"), ("/v1/collections", {}, "name"), ("/v1/collections", {"name": "x", "metadata": [1]}, "metadata"),
    ("/v1/collections", {"name": "x" * 201}, "name"), ("/v1/collections", {"name": "x", "colour": 1}, "colour"),
    ("/v1/api-keys", {"scopes": ["search"]}, "name"), ("/v1/api-keys", {"name": "x", "scopes": ["everything!"]}, "scopes.0"),
    ("/v1/api-keys", {"name": "x", "scopes": []}, "scopes"), ("/v1/api-keys", {"name": "x", "scopes": ["ask"], "expires_at": "soon"}, "expires_at"),
    ("/v1/api-keys", {"name": "x", "scopes": ["ask"], "expires_at": 5}, "expires_at"), ("/v1/tenants", {}, "name"),
    ("/v1/tenants", {"name": "x", "colour": 1}, "colour"),
]  # fmt: skip


async def test_a_bad_field_is_named(api: Api) -> None:
    for path, body, param in BODIES:
        response = await api.call("POST", path, content=orjson.dumps(body), headers=JSON)
        assert_error(response, 422, "invalid_field", param)
        assert len(response.json()["error"]["message"].split()) > 2


async def test_what_nobody_expected_is_a_500_that_tells_nothing(api: Api) -> None:
    api.search.error = RuntimeError("asyncpg: SELECT secret FROM /home/somebody")
    response = await api.call("POST", "/v1/search", json={"query": "x"})
    assert_error(response, 500, "internal")
    assert "somebody" not in response.text
    api.search.error = DocrayError("a message with /var/lib/secrets in it")
    response = await api.call("POST", "/v1/search", json={"query": "x"})
    assert_error(response, 500, "internal")
    assert "secrets" not in response.text


async def test_a_dependency_that_is_away_is_a_503_with_retry_after(api: Api) -> None:
    api.search.error = Unavailable(retry_after_s=2.4)
    response = await api.call("POST", "/v1/search", json={"query": "x"})
    assert_error(response, 503, "unavailable")
    assert (response.headers["retry-after"], response.json()["error"]["retryable"]) == ("3", True)


async def test_answers_carry_headers_that_keep_browsers_safe(api: Api) -> None:
    for path in ("/v1/documents", "/healthz", "/v1/nothing-here"):
        headers = (await api.call("GET", path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "default-src 'none'" in headers["content-security-policy"]


async def test_health_needs_no_key_and_readiness_says_what_is_wrong(api: Api) -> None:
    async with api.client("") as anonymous:
        assert (await anonymous.get("/healthz")).json() == {"status": "ok"}
        ready = await anonymous.get("/readyz")
        assert (ready.status_code, ready.json()["status"], set(ready.json()["checks"])) == (200, "ok", {"database", "blobs"})
        assert (await anonymous.get("/openapi.json")).json()["info"]["title"] == "docray"
        page = await anonymous.get("/docs")
    assert page.status_code == 200
    assert "<script" not in page.text
    for name in ("/v1/documents/{document_id}/pages/{page}.png", "merge_neighbours", "Idempotency-Key", "text/event-stream", "NotReady"):
        assert name in page.text
    assert set(re.findall(r'href="#(\w+)"', page.text)) <= set(re.findall(r'id="(\w+)"', page.text))


async def test_readiness_is_degraded_or_unavailable_by_what_failed(api: Api) -> None:
    class Failing:
        def __init__(self, name: str, critical: bool) -> None:
            self.name, self.critical = name, critical

        async def check(self) -> dict[str, Any]:
            return {"ok": False, "latency_ms": None, "detail": "does not answer"}

    services = api.services
    for critical, status, code in ((False, "degraded", 200), (True, "unavailable", 503)):
        app = create_app(type(services)(**{**vars(services), "health": (*services.health, Failing("cache", critical))}))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://docray") as client:
            response = await client.get("/readyz")
        assert (response.status_code, response.json()["status"]) == (code, status)
        assert response.json()["checks"]["cache"] == {"ok": False, "latency_ms": None, "detail": "does not answer"}
    assert_error(response, 503, "unavailable")
    assert response.headers["retry-after"] == "1"


async def test_more_than_fits_at_once_is_refused_and_probes_still_answer(api: Api) -> None:
    services = api.services
    limited = services.settings.model_copy(update={"max_concurrent_requests": 3})
    app = create_app(type(services)(**{**vars(services), "settings": limited}))
    api.search.gate.clear()
    headers = {"Authorization": f"Bearer {api.secret}"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://docray", headers=headers) as client:
        at_work = [asyncio.create_task(client.post("/v1/search", json={"query": "x"})) for _ in range(3)]
        for _ in at_work:
            await api.search.arrived.get()
        refused = await client.get("/v1/me")
        assert_error(refused, 429, "overloaded")
        assert refused.headers["retry-after"] == "1"
        assert (await client.get("/healthz")).status_code == 200
        api.search.gate.set()
        assert [response.status_code for response in await asyncio.gather(*at_work)] == [200] * 3
        assert (await client.get("/v1/me")).status_code == 200


async def test_a_rate_in_force_is_told_and_held(api: Api) -> None:
    services = api.services
    limited = services.settings.model_copy(update={"requests_per_minute": 2})
    app = create_app(type(services)(**{**vars(services), "settings": limited}))
    headers = {"Authorization": f"Bearer {api.secret}"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://docray", headers=headers) as client:
        assert (await client.get("/v1/me")).json()["limits"]["requests_per_minute"] == 2
        await client.get("/v1/me")
        refused = await client.get("/v1/me")
        assert_error(refused, 429, "rate_limited")
        assert int(refused.headers["retry-after"]) in range(1, 31)


async def test_services_open_with_the_app_and_close_with_it_even_if_one_fails(api: Api) -> None:
    steps: list[str] = []

    async def open_services() -> Any:
        steps.append("open")
        return api.services

    async def warm() -> None:
        steps.append("warm")

    async def close() -> None:
        steps.append("close")

    async def break_off() -> None:
        steps.append("break off")
        raise Unavailable

    app = create_app(open_services, settings=api.services.settings, on_start=[warm], on_stop=[close, break_off])
    running = app.router.lifespan_context(app)
    await running.__aenter__()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://docray") as client:
        assert (await client.get("/readyz")).status_code == 200
    with pytest.raises(Unavailable):
        await running.__aexit__(None, None, None)
    assert steps == ["open", "warm", "break off", "close"]


async def test_an_answer_that_breaks_off_half_way_is_cut_not_ended() -> None:
    async def broken(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise NotFound

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    with pytest.raises(NotFound):
        await RequestContext(broken)(scope, receive, send)
    assert [message["type"] for message in sent] == ["http.response.start"]
