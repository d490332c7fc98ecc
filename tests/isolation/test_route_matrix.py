"""A2 and A3: every route stands in `route_matrix.txt` with what each kind of credential gets, and gets just that.

A new route fails here until somebody has written down who may call it. Roles of people come with sign-in; their columns will stand here too.
"""

import dataclasses
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from docray.domain.ids import new_id
from docray.domain.principals import Scope
from docray.security.api_keys import hash_of, make_key
from docray.stores.postgres import Database
from docray.stores.postgres_catalog import PostgresCatalog
from docray.stores.postgres_keys import PostgresCredentials
from tests.integration.api_harness import Api, a_pdf, api, api_settings  # noqa: F401 - fixtures are used by name

MATRIX = Path(__file__).with_name("route_matrix.txt")
PDF_TYPE = {"Content-Type": "application/pdf"}

Route = str  # "METHOD /path"


def written() -> tuple[list[str], dict[Route, dict[str, int]]]:
    """The columns and rows of the matrix."""
    lines = [line.split() for line in MATRIX.read_text().splitlines() if line and not line.startswith("#")]
    columns, rows = lines[0][2:], lines[1:]
    return columns, {f"{method} {path}": dict(zip(columns, map(int, statuses), strict=True)) for method, path, *statuses in rows}


def served(app: Any) -> set[Route]:
    """Every route that the app answers, those that OpenAPI does not show too."""
    return {f"{method} {route.path}" for route in app.routes for method in route.methods}


def test_every_route_is_in_the_matrix(api: Api) -> None:  # noqa: F811
    _, rows = written()
    assert served(api.app) == set(rows)


@dataclasses.dataclass
class Tenant:
    """A tenant with one of each thing, of things that can be used up a new one each time."""

    api: Api
    database: Database
    tenant_id: UUID
    document: str = ""
    collection: str = ""
    key: str = ""
    job: str = ""
    reindex: str = ""

    async def prepared(self) -> "Tenant":
        """Makes what is read only."""
        self.document = (await self.api.added())["id"]
        self.collection = (await self.api.collection())["id"]
        await self.api.call("PUT", f"/v1/collections/{self.collection}/documents/{self.document}")
        self.key = await self.a_key()
        self.reindex = await self.a_reindex()
        return self

    async def a_document(self) -> str:
        """A document to use up."""
        return str((await self.api.added())["id"])

    async def a_failed(self) -> str:
        """One that failed."""
        return str((await self.api.failed())["id"])

    async def a_collection(self) -> str:
        """A collection to use up."""
        return str((await self.api.collection())["id"])

    async def a_key(self) -> str:
        """The id of a key to use up."""
        return str((await self.api.call("POST", "/v1/api-keys", json={"name": "k", "scopes": ["ask"]})).json()["id"])

    async def a_reindex(self, *, switched: bool = False) -> str:
        """The open one: of a collection without documents, so that all is built, and old enough to be switched."""
        await self.no_reindex()
        empty = await self.a_collection()
        reindex = (await self.api.call("POST", "/v1/reindexes", json={"collection_id": empty})).json()["id"]
        async with self.database.tenant_tx(self.tenant_id) as connection:
            await connection.execute("UPDATE docray.reindexes SET created_at = created_at - interval '10 s' WHERE id = $1", UUID(reindex))
        if switched:
            await self.api.call("POST", f"/v1/reindexes/{reindex}/switch")
        return str(reindex)

    async def no_reindex(self) -> str:
        """Ends the open one."""
        for found in (await self.api.call("GET", "/v1/reindexes?limit=200")).json()["data"]:
            if found["state"] in ("building", "switched"):
                await self.api.call("POST", f"/v1/reindexes/{found['id']}/rollback")
        return ""

    async def a_member(self) -> str:
        """A document of the collection."""
        document = await self.a_document()
        await self.api.call("PUT", f"/v1/collections/{self.collection}/documents/{document}")
        return document


Make = Callable[[Tenant], Awaitable[dict[str, str]]]


async def _of(name: str, made: Awaitable[str]) -> dict[str, str]:
    return {name: await made}


USED_UP: dict[Route, Make] = {
    "DELETE /v1/documents/{document_id}": lambda tenant: _of("document_id", tenant.a_document()),
    "PUT /v1/documents/{document_id}/content": lambda tenant: _of("document_id", tenant.a_document()),
    "POST /v1/documents/{document_id}/retry": lambda tenant: _of("document_id", tenant.a_failed()),
    "DELETE /v1/collections/{collection_id}": lambda tenant: _of("collection_id", tenant.a_collection()),
    "DELETE /v1/collections/{collection_id}/documents/{document_id}": lambda tenant: _of("document_id", tenant.a_member()),
    "DELETE /v1/api-keys/{key_id}": lambda tenant: _of("key_id", tenant.a_key()),
    "POST /v1/reindexes": lambda tenant: _of("reindex_id", tenant.no_reindex()),
    "POST /v1/reindexes/{reindex_id}/switch": lambda tenant: _of("reindex_id", tenant.a_reindex()),
    "POST /v1/reindexes/{reindex_id}/rollback": lambda tenant: _of("reindex_id", tenant.a_reindex()),
    "POST /v1/reindexes/{reindex_id}/finish": lambda tenant: _of("reindex_id", tenant.a_reindex(switched=True)),
    "POST /v1/reindexes/{reindex_id}/retry": lambda tenant: _of("reindex_id", tenant.a_reindex()),
}
BODIES: dict[Route, Callable[[], dict[str, Any]]] = {
    "POST /v1/search": lambda: {"json": {"query": "q"}},
    "POST /v1/ask": lambda: {"json": {"question": "q"}},
    "POST /v1/documents": lambda: {"content": a_pdf(), "headers": PDF_TYPE},
    "PUT /v1/documents/{document_id}/content": lambda: {"content": a_pdf(), "headers": PDF_TYPE},
    "PATCH /v1/documents/{document_id}": lambda: {"json": {"title": "t"}},
    "POST /v1/collections": lambda: {"json": {"name": str(new_id())}},
    "PATCH /v1/collections/{collection_id}": lambda: {"json": {"description": "d"}},
    "PUT /v1/collections/{collection_id}/documents/{document_id}": lambda: {"json": {}},
    "POST /v1/api-keys": lambda: {"json": {"name": "k", "scopes": ["ask"]}},
    "POST /v1/tenants": lambda: {"json": {"name": str(new_id())}},
    "POST /v1/reindexes": lambda: {"json": {}},
}


@pytest.fixture
async def credentials(api: Api, database) -> tuple[Tenant, dict[str, str]]:  # noqa: F811
    """A tenant, and a secret for each column of the matrix. The operator is of another tenant, as is the foreign admin."""

    async def admin_of(name: str) -> str:
        return str((await api.call("POST", "/v1/tenants", json={"name": name})).json()["api_key"]["secret"])

    owner = dataclasses.replace(api, secret=await admin_of("owner"))
    principal = await PostgresCredentials(database).find(hash_of(owner.secret))
    assert principal is not None
    tenant = await Tenant(owner, database, principal.tenant_id).prepared()
    expired = make_key("expired", [Scope.ADMIN], datetime.now(UTC) - timedelta(seconds=1))
    revoked = make_key("revoked", [Scope.ADMIN])
    async with PostgresCatalog(database).transaction(principal) as tx:
        for made in (expired, revoked):
            await tx.api_keys.insert(made.key, made.secret_hash)
        await tx.api_keys.revoke(revoked.key.id)
        tenant.job = str(new_id())
        await tx.bulk_runs.insert(UUID(tenant.job), "/in", None)
    scopes = {scope.value: await owner.key(scope.value) for scope in (Scope.SEARCH, Scope.ASK, Scope.INGEST, Scope.MCP)}
    return tenant, {
        "anonymous": "", "wrong": make_key("wrong", []).secret, "expired": expired.secret, "revoked": revoked.secret, **scopes,
        "admin": owner.secret, "foreign": await admin_of("stranger"), "operator": api.secret,
    }  # fmt: skip


async def test_every_credential_gets_on_every_route_what_the_matrix_says(credentials: tuple[Tenant, dict[str, str]]) -> None:
    tenant, secrets = credentials
    columns, rows = written()
    assert set(columns) == set(secrets)
    found = {route: {column: await status(tenant, route, secrets[column]) for column in columns} for route in rows}
    differences = {route: {c: (found[route][c], row[c]) for c in columns if found[route][c] != row[c]} for route, row in rows.items()}
    assert {route: wrong for route, wrong in differences.items() if wrong} == {}


async def status(tenant: Tenant, route: Route, secret: str) -> int:
    """What a credential gets on a route, for the tenant's own things."""
    method, path = route.split(" ")
    ids = {"document_id": tenant.document, "collection_id": tenant.collection, "key_id": tenant.key, "job_id": tenant.job,
           "reindex_id": tenant.reindex, "page": "1"}  # fmt: skip
    if route in USED_UP:
        ids |= await USED_UP[route](tenant)
    async with tenant.api.client(secret) as client:
        response = await client.request(method, path.format(**ids), **BODIES.get(route, dict)())
    return response.status_code
