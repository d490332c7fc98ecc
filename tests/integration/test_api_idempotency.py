"""Idempotency keys over HTTP: one effect and one answer, on every write."""

import asyncio
from typing import Any

import asyncpg
from api_harness import Api, a_pdf, assert_error, until

from docray.domain.ids import new_id


def key() -> str:
    return str(new_id())


async def test_an_upload_under_a_key_is_replayed_and_another_one_refused(api: Api) -> None:
    data, one = a_pdf(), key()
    first, second = await api.upload(data, "a.pdf", key=one), await api.upload(data, "a.pdf", key=one)
    assert (first.status_code, second.status_code, first.content) == (202, 202, second.content)
    assert ("idempotent-replayed" in first.headers, second.headers["idempotent-replayed"]) == (False, "true")
    for other in (
        await api.upload(a_pdf(), "a.pdf", key=one),
        await api.upload(data, "b.pdf", key=one),
        await api.upload(data, "a.pdf", key=one, title="t"),
    ):
        assert_error(other, 422, "idempotency_key_reused", "Idempotency-Key")
    assert len((await api.call("GET", "/v1/documents")).json()["data"]) == 1


async def test_a_raw_upload_of_the_same_fields_is_the_same_request(api: Api) -> None:
    data, headers = a_pdf(), {"Content-Type": "application/pdf", "Idempotency-Key": key()}
    one = await api.call("POST", "/v1/documents", content=data, params={"filename": "a.pdf", "title": "t"}, headers=headers)
    two = await api.call("POST", "/v1/documents", content=data, params={"title": "t", "filename": "a.pdf"}, headers=headers)
    assert (one.status_code, two.content, two.headers["idempotent-replayed"]) == (202, one.content, "true")


async def test_every_write_is_replayed(api: Api) -> None:
    document, failed, collection = await api.added(), await api.failed(), await api.collection()
    member = f"/v1/collections/{collection['id']}/documents/{document['id']}"
    pdf = {"content": a_pdf(), "headers": {"Content-Type": "application/pdf"}}
    made = (await api.call("POST", "/v1/api-keys", json={"name": "k", "scopes": ["ask"]})).json()
    writes: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/v1/collections", {"json": {"name": "new"}}),
        ("PATCH", f"/v1/collections/{collection['id']}", {"json": {"description": "new"}}),
        ("PUT", member, {"json": {"attributes": {"n": 1}}}),
        ("DELETE", member, {}),
        ("PATCH", f"/v1/documents/{document['id']}", {"json": {"title": "new"}}),
        ("PUT", f"/v1/documents/{document['id']}/content", pdf),
        ("POST", f"/v1/documents/{failed['id']}/retry", {}),
        ("POST", "/v1/search", {"json": {"query": "committee"}}),
        ("POST", "/v1/ask", {"json": {"question": "who?"}}),
        ("POST", "/v1/ask", {"json": {"question": "who?", "stream": True}}),
        ("POST", "/v1/api-keys", {"json": {"name": "idem", "scopes": ["search"]}}),
        ("DELETE", f"/v1/api-keys/{made['id']}", {}),
        ("POST", "/v1/tenants", {"json": {"name": "another"}}),
        ("DELETE", f"/v1/collections/{collection['id']}", {}),
        ("DELETE", f"/v1/documents/{document['id']}", {}),
    ]
    for method, path, options in writes:
        headers = {**options.get("headers", {}), "Idempotency-Key": key()}
        one = await api.call(method, path, **{**options, "headers": headers})
        two = await api.call(method, path, **{**options, "headers": headers})
        assert one.status_code < 300, (method, path, one.text)
        assert (two.status_code, two.content) == (one.status_code, one.content), (method, path)
        assert ("idempotent-replayed" in one.headers, two.headers.get("idempotent-replayed")) == (False, "true"), (method, path)
        assert two.headers.get("content-type") == one.headers.get("content-type")
        assert two.headers.get("etag") == one.headers.get("etag")


async def test_same_means_the_same_fields_not_the_same_bytes_and_the_same_path(api: Api) -> None:
    headers = {"Idempotency-Key": key(), "Content-Type": "application/json"}
    one = await api.call("POST", "/v1/collections", content=b'{"name":"c","metadata":{"a":1,"b":2}}', headers=headers)
    two = await api.call("POST", "/v1/collections", content=b' { "metadata": {"b":2, "a":1}, "name" : "c"}\n', headers=headers)
    assert (one.status_code, two.content, two.headers["idempotent-replayed"]) == (201, one.content, "true")
    assert_error(await api.call("POST", "/v1/collections", json={"name": "d"}, headers=headers), 422, "idempotency_key_reused", "Idempotency-Key")
    elsewhere = await api.call("POST", "/v1/search", json={"query": "x"}, headers=headers)
    assert (elsewhere.status_code, elsewhere.headers.get("idempotent-replayed")) == (200, None)


async def test_a_key_has_1_to_255_characters(api: Api) -> None:
    for wrong in ("", "k" * 256):
        response = await api.call("POST", "/v1/collections", json={"name": key()}, headers={"Idempotency-Key": wrong})
        assert_error(response, 422, "invalid_field", "Idempotency-Key")
    longest = await api.call("POST", "/v1/collections", json={"name": key()}, headers={"Idempotency-Key": "k" * 255})
    assert longest.status_code == 201


async def test_what_failed_did_nothing_and_may_be_sent_again(api: Api) -> None:
    taken, headers = await api.collection("taken"), {"Idempotency-Key": key()}
    assert_error(await api.call("POST", "/v1/collections", json={"name": "taken"}, headers=headers), 409, "duplicate_name")
    await api.call("DELETE", f"/v1/collections/{taken['id']}")
    again = await api.call("POST", "/v1/collections", json={"name": "taken"}, headers=headers)
    assert (again.status_code, again.headers.get("idempotent-replayed")) == (201, None)
    api.search.error = RuntimeError("broken")
    headers = {"Idempotency-Key": key()}
    assert (await api.call("POST", "/v1/search", json={"query": "x"}, headers=headers)).status_code == 500
    api.search.error = None
    assert (await api.call("POST", "/v1/search", json={"query": "x"}, headers=headers)).status_code == 200


async def test_keys_are_a_principals_own(api: Api) -> None:
    headers = {"Idempotency-Key": key()}
    await api.call("POST", "/v1/search", json={"query": "x"}, headers=headers)
    async with api.client(await api.key("search")) as other:
        response = await other.post("/v1/search", json={"query": "y"}, headers=headers)
    assert (response.status_code, response.headers.get("idempotent-replayed")) == (200, None)


async def test_twenty_at_once_take_effect_once(api: Api) -> None:
    headers = {"Idempotency-Key": key()}
    answers = await asyncio.gather(*(api.call("POST", "/v1/collections", json={"name": "once"}, headers=headers) for _ in range(20)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert {answer.status_code for answer in answers} >= {201}
    for answer in answers:
        if answer.status_code == 409:
            assert_error(answer, 409, "idempotency_in_progress")
    assert [row["name"] for row in (await api.call("GET", "/v1/collections")).json()["data"]] == ["once"]


async def test_a_request_that_runs_answers_in_progress_to_the_next(api: Api) -> None:
    headers = {"Idempotency-Key": key()}
    api.search.gate.clear()
    running = asyncio.create_task(api.call("POST", "/v1/search", json={"query": "x"}, headers=headers))
    await api.search.arrived.get()
    response = await api.call("POST", "/v1/search", json={"query": "x"}, headers=headers)
    assert_error(response, 409, "idempotency_in_progress")
    assert response.json()["error"]["retryable"] is True
    api.search.gate.set()
    assert (await running).status_code == 200
    assert len(api.search.requests) == 1


async def test_a_claim_that_another_took_over_has_no_second_effect(api: Api, superuser: asyncpg.Connection) -> None:
    """The process that held it was thought dead, and was not: its transaction rolls back."""
    await api.collection("taken")
    blocker = superuser.transaction()
    await blocker.start()
    await superuser.execute("LOCK TABLE docray.collections IN EXCLUSIVE MODE")  # the request stops before its effect
    lost = asyncio.create_task(api.call("POST", "/v1/collections", json={"name": "lost"}, headers={"Idempotency-Key": key()}))

    async def claimed() -> bool:
        return bool(await superuser.fetchval("SELECT count(*) FROM docray.idempotency_keys"))

    await until(claimed)
    await superuser.execute("UPDATE docray.idempotency_keys SET token = gen_random_uuid()")
    await blocker.commit()
    assert_error(await lost, 409, "idempotency_in_progress")
    assert [row["name"] for row in (await api.call("GET", "/v1/collections")).json()["data"]] == ["taken"]


async def test_a_stream_that_broke_off_is_not_stored(api: Api) -> None:
    headers, body = {"Idempotency-Key": key()}, {"question": "who?", "stream": True}
    api.answers.error_after = RuntimeError("the model went away")
    broken = await api.call("POST", "/v1/ask", json=body, headers=headers)
    assert "event: error" in broken.text
    api.answers.error_after = None
    whole = await api.call("POST", "/v1/ask", json=body, headers=headers)
    assert ("final_answer" in whole.text, whole.headers.get("idempotent-replayed")) == (True, None)
    replayed = await api.call("POST", "/v1/ask", json=body, headers=headers)
    assert (replayed.content, replayed.headers["idempotent-replayed"]) == (whole.content, "true")
    assert len(api.answers.questions) == 2
