"""D3: the connection is reset after the server's commit, before the client hears of it; the same request under the same key has one effect."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.resilience.conftest import NewSite
from tests.resilience.story import Site, a_pdf

_LISTEN_BACKLOG = 16


@contextlib.asynccontextmanager
async def swallowing(upstream: str, socket: str) -> AsyncIterator[list[bytes]]:
    """A proxy that passes a request on, waits for the whole answer, keeps it, and resets the client's connection."""
    kept: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0] or 0)
        body = await reader.readexactly(length)
        from_server, to_server = await asyncio.open_unix_connection(upstream)
        to_server.write(head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1) + body)
        kept.append(await from_server.read())
        to_server.close()
        writer.transport.abort()

    server = await asyncio.start_unix_server(handle, socket, backlog=_LISTEN_BACKLOG)
    async with server:
        yield kept


class Scene:
    """What the requests are about."""

    def __init__(self, site: Site) -> None:
        self.site = site

    async def prepare(self) -> None:
        """A document that answers, one that failed, a collection with a document, a key."""
        self.site.start()
        self.document = await self.site.upload(a_pdf("kept"))
        self.failed = await self.site.upload(b"%PDF-1.7\nnothing that follows makes sense")
        await self.site.until(self.document, "ready")
        await self.site.until(self.failed, "failed")
        self.collection = (await self.site.call("POST", "/v1/collections", json={"name": "one"})).json()["id"]
        self.key = (await self.site.call("POST", "/v1/api-keys", json={"name": "another", "scopes": ["search"]})).json()["id"]
        await self.site.call("PUT", f"/v1/collections/{self.collection}/documents/{self.document}", json={})

    async def until_built(self) -> None:
        """The newest reindex can be switched."""
        async with asyncio.timeout(60):
            while (await self.site.call("GET", f"/v1/reindexes/{self.reindex}")).json()["documents"]["waiting"]:
                await asyncio.sleep(0.3)

    async def effects(self, action: str) -> int:
        """How many times it was done."""
        count: int = await self.site.superuser.fetchval("SELECT count(*) FROM docray.audit_log WHERE action = $1", action)
        return count


PDF = {"Content-Type": "application/pdf"}
WRITES = [
    ("POST", "/v1/documents", {"content": a_pdf("new"), "headers": PDF}, "document.create"),
    ("PATCH", "/v1/documents/{document}", {"json": {"title": "A title"}}, "document.patch"),
    ("PUT", "/v1/documents/{document}/content", {"content": a_pdf("next"), "headers": PDF}, "document.replace"),
    ("POST", "/v1/documents/{failed}/retry", {}, "document.retry"),
    ("POST", "/v1/collections", {"json": {"name": "two"}}, "collection.create"),
    ("PATCH", "/v1/collections/{collection}", {"json": {"name": "three"}}, "collection.patch"),
    ("DELETE", "/v1/collections/{collection}/documents/{document}", {}, "collection.remove"),
    ("PUT", "/v1/collections/{collection}/documents/{failed}", {"json": {}}, "collection.add"),
    ("DELETE", "/v1/collections/{collection}", {}, "collection.delete"),
    ("POST", "/v1/api-keys", {"json": {"name": "third", "scopes": ["search"]}}, "api_key.create"),
    ("DELETE", "/v1/api-keys/{key}", {}, "api_key.revoke"),
    ("POST", "/v1/reindexes", {"json": {"switch": "tenant"}}, "reindex.start"),
    ("POST", "/v1/reindexes/{reindex}/retry", {}, "reindex.retry"),
    ("POST", "/v1/reindexes/{reindex}/switch", {"json": {"accept_failures": True}}, "reindex.switch"),
    ("POST", "/v1/reindexes/{reindex}/finish", {}, "reindex.finish"),
    ("POST", "/v1/reindexes", {"json": {"switch": "tenant"}}, "reindex.start"),
    ("POST", "/v1/reindexes/{reindex}/rollback", {}, "reindex.rollback"),
    ("DELETE", "/v1/documents/{document}", {}, "document.delete"),
]


async def test_a_write_whose_reply_was_lost_has_one_effect_and_the_same_answer(new_site: NewSite) -> None:
    async with new_site(lease_s=30.0, heartbeat_s=5.0) as site:
        scene = Scene(site)
        await scene.prepare()
        socket = site.place.data_dir / "proxy.sock"
        async with swallowing(str(site.processes[-1].socket), str(socket)) as kept:
            transport = httpx.AsyncHTTPTransport(uds=str(socket), verify=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://docray", timeout=30) as client:
                for method, template, options, action in WRITES:
                    path, key = template.format(**vars(scene)), str(uuid.uuid4())
                    if action == "reindex.switch":
                        await asyncio.sleep(2.5)  # a reindex is not switched sooner
                        await scene.until_built()
                    before = await scene.effects(action)
                    headers = {"Authorization": f"Bearer {site.secret}", "Idempotency-Key": key} | options.get("headers", {})
                    with pytest.raises(httpx.TransportError):
                        await client.request(method, path, **{**options, "headers": headers})
                    again = await site.call(method, path, key=key, **options)
                    assert again.status_code < 300, (path, again.text)
                    assert again.headers["idempotent-replayed"] == "true", path
                    assert again.content == _body(kept[-1]), path
                    assert await scene.effects(action) - before == 1, path
                    if action == "reindex.start":
                        scene.reindex = again.json()["id"]
        routes = (await site.call("GET", "/openapi.json")).json()["paths"]
        writes = {(method.upper(), path) for path, found in routes.items() for method in found if method in ("post", "put", "patch", "delete")}
        tried = {(method, path) for method, template, _, _ in WRITES for path in routes if _is(template, path)}
        assert {each for each in writes - tried if each[1] not in ("/v1/search", "/v1/ask", "/v1/tenants")} == set()


def _body(answer: bytes) -> bytes:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    return body


def _is(template: str, path: str) -> bool:
    """Whether a path of the API's description is the template's, whatever its parameters are called."""
    ours, theirs = template.split("/"), path.split("/")
    return len(ours) == len(theirs) and all(mine == other or (mine[:1], other[:1]) == ("{", "{") for mine, other in zip(ours, theirs, strict=True))
