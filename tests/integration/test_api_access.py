"""Keys, tenants and oneself over HTTP; collections and who is in them."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import orjson
from api_harness import Api, a_pdf, assert_error

from docray.domain.ids import new_id


async def test_me_tells_principal_tenant_scopes_and_limits(api: Api) -> None:
    me = (await api.call("GET", "/v1/me")).json()
    assert me["principal"] == {"type": "api_key", "id": str(api.principal.id), "name": "admin"}
    assert me["tenant"] == {"id": str(api.principal.tenant_id), "name": "default"}
    assert me["scopes"] == ["admin"]
    assert me["limits"] == {
        "max_document_bytes": 200_000, "max_pages": 5000, "extract_time_s": 120.0, "extract_memory_bytes": 2 << 30, "requests_per_minute": None,
    }  # fmt: skip


async def test_a_key_shows_its_secret_once_and_stops_when_revoked(api: Api) -> None:
    made = (await api.call("POST", "/v1/api-keys", json={"name": "probe", "scopes": ["search", "ask", "search"]})).json()
    secret = made.pop("secret")
    assert made["scopes"] == ["ask", "search"]
    assert secret.startswith(made["prefix"])
    assert (made["expires_at"], made["last_used_at"], made["revoked_at"]) == (None, None, None)
    assert (await api.call("GET", f"/v1/api-keys/{made['id']}")).json() == made
    async with api.client(secret) as client:
        assert (await client.get("/v1/me")).json()["scopes"] == ["ask", "search"]
        listed = await api.call("GET", "/v1/api-keys")
        assert [row["id"] for row in listed.json()["data"]] == [made["id"], str(api.principal.id)]
        assert secret not in listed.text
        revoked = await api.call("DELETE", f"/v1/api-keys/{made['id']}")
        assert (revoked.status_code, revoked.json()["revoked_at"] is None) == (200, False)
        assert_error(await client.get("/v1/me"), 401, "invalid_credentials")
    assert_error(await api.call("GET", f"/v1/api-keys/{new_id()}"), 404, "not_found")
    assert_error(await api.call("DELETE", f"/v1/api-keys/{new_id()}"), 404, "not_found")


async def test_a_key_expires(api: Api) -> None:
    expires = datetime.now(UTC) + timedelta(hours=1)
    made = (await api.call("POST", "/v1/api-keys", json={"name": "short", "scopes": ["ask"], "expires_at": expires.isoformat()})).json()
    assert made["expires_at"] == expires.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    past = (await api.call("POST", "/v1/api-keys", json={"name": "past", "scopes": ["ask"], "expires_at": "2020-01-01T00:00:00Z"})).json()
    async with api.client(past["secret"]) as client:
        assert_error(await client.get("/v1/me"), 401, "invalid_credentials")


async def test_a_new_tenant_is_empty_and_sees_nothing_of_others(api: Api) -> None:
    document = await api.added()
    made = await api.call("POST", "/v1/tenants", json={"name": "other"})
    assert (made.status_code, made.json()["object"], made.json()["api_key"]["scopes"]) == (201, "tenant", ["admin"])
    assert_error(await api.call("POST", "/v1/tenants", json={"name": "other"}), 409, "duplicate_name")
    async with api.client(made.json()["api_key"]["secret"]) as theirs:
        me = (await theirs.get("/v1/me")).json()
        assert me["tenant"] == {"id": made.json()["id"], "name": "other"}
        assert (await theirs.get("/v1/documents")).json()["data"] == (await theirs.get("/v1/collections")).json()["data"] == []
        assert_error(await theirs.get(f"/v1/documents/{document['id']}"), 404, "not_found")
        assert_error(await theirs.post("/v1/tenants", json={"name": "x"}), 403, "insufficient_scope")


async def test_collections_are_made_changed_listed_and_deleted(api: Api) -> None:
    made = await api.collection("Ärzte", description="d", metadata={"k": 1, "gone": 2})
    assert (made["object"], made["name"], made["description"], made["document_count"]) == ("collection", "Ärzte", "d", 0)
    path = f"/v1/collections/{made['id']}"
    changed = (await api.call("PATCH", path, json={"name": "new", "description": None, "metadata": {"k": 2, "gone": None}})).json()
    assert (changed["name"], changed["description"], changed["metadata"]) == ("new", None, {"k": 2})
    assert (await api.call("GET", path)).json() == changed
    second = await api.collection("second")
    assert_error(await api.call("POST", "/v1/collections", json={"name": "new"}), 409, "duplicate_name")
    assert_error(await api.call("PATCH", f"/v1/collections/{second['id']}", json={"name": "new"}), 409, "duplicate_name")
    assert_error(await api.call("PATCH", path, json={"name": None}), 422, "invalid_field", "name")
    first_page = (await api.call("GET", "/v1/collections", params={"limit": 1})).json()
    second_page = (await api.call("GET", "/v1/collections", params={"limit": 1, "after": first_page["next_cursor"]})).json()
    assert [row["id"] for row in first_page["data"] + second_page["data"]] == [second["id"], made["id"]]
    assert_error(await api.call("DELETE", path, params={"documents": "maybe"}), 422, "invalid_field", "documents")
    gone = await api.call("DELETE", path)
    assert (gone.status_code, gone.json()) == (202, {"id": made["id"], "object": "collection", "deleted": True})
    assert_error(await api.call("GET", path), 404, "not_found")


async def test_deleting_a_collection_keeps_or_deletes_what_is_in_no_other_one(api: Api) -> None:
    for mode, kept in (("keep", True), ("delete", False)):
        one, two = await api.collection(), await api.collection()
        alone = await api.added(collection_id=one["id"])
        both = await api.added(collection_id=[one["id"], two["id"]])
        assert sorted(both["collection_ids"]) == sorted([one["id"], two["id"]])
        await api.call("DELETE", f"/v1/collections/{one['id']}", params={"documents": mode})
        assert (await api.call("GET", f"/v1/documents/{both['id']}")).json()["collection_ids"] == [two["id"]]
        assert ((await api.call("GET", f"/v1/documents/{alone['id']}")).status_code == 200) is kept


async def test_a_document_has_attributes_of_its_own_in_each_collection(api: Api) -> None:
    document, one, two = await api.added(), await api.collection(), await api.collection()
    links = [f"/v1/collections/{collection['id']}/documents/{document['id']}" for collection in (one, two)]
    for link, colour in zip(links, ("red", "green"), strict=True):
        put = await api.call("PUT", link, json={"attributes": {"colour": colour}})
        assert (put.status_code, put.json()["object"], put.json()["attributes"]) == (200, "collection_document", {"colour": colour})
    assert (await api.call("PUT", links[0])).json()["attributes"] == {"colour": "red"}
    listed = (await api.call("GET", f"/v1/collections/{one['id']}/documents")).json()
    assert [(row["document_id"], row["attributes"]) for row in listed["data"]] == [(document["id"], {"colour": "red"})]
    out = await api.call("DELETE", links[0])
    assert (out.status_code, out.content) == (204, b"")
    assert_error(await api.call("DELETE", links[0]), 404, "not_found")
    assert_error(await api.call("PUT", f"/v1/collections/{new_id()}/documents/{document['id']}", json={}), 404, "not_found")
    assert_error(await api.call("PUT", f"/v1/collections/{one['id']}/documents/{new_id()}", json={}), 404, "not_found")
    assert_error(await api.call("GET", f"/v1/collections/{new_id()}/documents"), 404, "not_found")


async def test_every_write_is_in_the_audit_log_and_says_nothing_of_content(api: Api, superuser: asyncpg.Connection) -> None:
    document, collection = await api.added(title="Private title", metadata={"private": "words"}), await api.collection("Private name")
    path = f"/v1/documents/{document['id']}"
    await api.upload(a_pdf("private bytes"), collection_id=collection["id"])
    await api.call("PATCH", path, json={"title": "Private too"})
    await api.call("PUT", f"{path}/content", content=a_pdf(), headers={"Content-Type": "application/pdf"})
    await api.work(fail=True)
    await api.call("POST", f"{path}/retry")
    await api.call("PUT", f"/v1/collections/{collection['id']}/documents/{document['id']}", json={"attributes": {"private": 1}})
    await api.call("DELETE", f"/v1/collections/{collection['id']}/documents/{document['id']}")
    await api.call("DELETE", f"/v1/collections/{collection['id']}")
    await api.call("DELETE", path)
    secret = await api.key("search")
    rows = await superuser.fetch("SELECT * FROM docray.audit_log WHERE principal_id = $1", api.principal.id)
    assert {row["action"] for row in rows} >= {
        "document.create", "document.patch", "document.replace", "document.retry", "document.delete", "collection.create", "collection.add",
        "collection.remove", "collection.delete", "api_key.create",
    }  # fmt: skip
    told = orjson.dumps([str(dict(row)) for row in rows]).decode()
    assert "rivate" not in told
    assert secret not in told


async def test_odd_texts_and_names_never_break_a_call(api: Api) -> None:
    odd = ["\U0001f600", "'; DROP TABLE documents; --", "%_\\", "a AND (b OR", "\ufffd", " ", "\u202e", "{}", "\x7f"]
    answers = await asyncio.gather(
        *(api.call("GET", "/v1/documents", params={"q": text, "filename": text, f"metadata.{text}": text}) for text in odd),
        *(api.call("POST", "/v1/search", json={"query": text}) for text in odd),
        *(api.call("POST", "/v1/collections", json={"name": text, "metadata": {text: text}}) for text in odd),
    )
    assert {answer.status_code for answer in answers} <= {200, 201}
