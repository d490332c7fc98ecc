"""Documents over HTTP: upload, duplicates, replacement, patch, retry, delete, lists, bytes, pages."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
from api_harness import Api, a_pdf, assert_error, sha256_of, white_point

from docray.domain.errors import ExtractionFailed
from docray.domain.ids import new_id


def blobs_of(api: Api) -> list[Path]:
    return [path for path in (Path(api.services.settings.data_dir) / "blobs" / "objects").rglob("*") if path.is_file()]


# --- upload --------------------------------------------------------------------------------------------------------------


async def test_an_upload_is_accepted_and_becomes_ready(api: Api) -> None:
    data = a_pdf()
    response = await api.upload(data, "../Ünïcode 报告.pdf", title="Tïtle", metadata={"a": [1, {"b": None}]})
    assert response.status_code == 202
    document = response.json()
    assert document["state"] == "queued"
    assert (document["filename"], document["title"], document["metadata"]) == ("Ünïcode 报告.pdf", "Tïtle", {"a": [1, {"b": None}]})
    assert (document["sha256"], document["size_bytes"], document["generation"]) == (sha256_of(data), len(data), 1)
    assert document["progress"] == {"stage": "queued", "pages_done": 0, "pages_total": None}
    assert [path.read_bytes() for path in blobs_of(api)] == [data]
    await api.work()
    ready = (await api.call("GET", f"/v1/documents/{document['id']}")).json()
    assert (ready["state"], ready["page_count"], ready["progress"]["stage"]) == ("ready", 2, "done")
    assert ready["created_at"] < ready["ready_at"]
    assert ready["created_at"].endswith("Z")
    assert len(ready["created_at"]) == len("2026-01-01T00:00:00.000000Z")


async def test_raw_bytes_are_accepted_with_their_fields_in_the_query(api: Api) -> None:
    collection = await api.collection()
    query = {"filename": "räw.pdf", "title": "t", "metadata": '{"n":1}', "collection_id": collection["id"]}
    response = await api.call("POST", "/v1/documents", content=a_pdf(), params=query, headers={"Content-Type": "application/pdf"})
    assert response.status_code == 202
    document = response.json()
    assert (document["filename"], document["title"], document["metadata"]) == ("räw.pdf", "t", {"n": 1})
    assert document["collection_ids"] == [collection["id"]]
    unnamed = await api.call("POST", "/v1/documents", content=a_pdf(), headers={"Content-Type": "application/pdf"})
    assert unnamed.json()["filename"] == "document.pdf"


async def test_the_same_bytes_again_are_the_same_document_now_also_in_the_collections_named(api: Api) -> None:
    data, collection = a_pdf(), await api.collection()
    first = await api.added(data, title="First")
    again = await api.upload(data, "other.pdf", title="Other", collection_id=collection["id"])
    assert again.status_code == 200
    assert again.json() == {**first, "duplicate": True, "collection_ids": [collection["id"]], "updated_at": again.json()["updated_at"]}
    assert len(blobs_of(api)) == 1
    other = await api.upload(data, if_duplicate="create")
    assert other.status_code == 202
    assert other.json()["id"] != first["id"]


async def test_fifty_uploads_of_the_same_bytes_at_once_make_one_document(api: Api) -> None:
    data = a_pdf()
    answers = await asyncio.gather(*(api.upload(data, f"{n}.pdf") for n in range(50)))
    assert sorted(answer.status_code for answer in answers) == [200] * 49 + [202]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(blobs_of(api)) == 1


async def test_a_failed_document_is_queued_again_by_its_bytes(api: Api) -> None:
    data, collection = a_pdf(), await api.collection()
    failed = await api.failed(data)
    assert (failed["state"], failed["failure"]["code"], failed["ready_at"]) == ("failed", "damaged", None)
    again = await api.upload(data, collection_id=collection["id"])
    assert again.status_code == 202
    assert (again.json()["id"], again.json()["state"], again.json()["collection_ids"]) == (failed["id"], "queued", [collection["id"]])
    assert "duplicate" not in again.json()


async def test_after_a_delete_the_same_bytes_are_a_new_document(api: Api) -> None:
    data = a_pdf()
    first = await api.added(data)
    await api.call("DELETE", f"/v1/documents/{first['id']}")
    again = await api.upload(data)
    assert again.status_code == 202
    assert again.json()["id"] != first["id"]


async def test_what_is_no_pdf_or_too_large_is_refused_and_nothing_is_kept(api: Api) -> None:
    refused = [(b"", 415), (b"<!doctype html>" * 100, 415), (b"\n" * 1020 + b"%PDF-1.7", 415), (b"%PDF-1.7" + b"x" * 200_000, 413)]
    for data, status in refused:
        raw = await api.call("POST", "/v1/documents", content=data, headers={"Content-Type": "application/pdf"})
        for response in (raw, await api.upload(data)):
            assert_error(response, status, {413: "too_large", 415: "not_a_pdf"}[status], "file")
    assert blobs_of(api) == []


async def test_a_header_within_the_first_1024_bytes_is_enough(api: Api) -> None:
    for data in (b"\n" * 1019 + b"%PDF-1.7", b"%PDF-", b"%PDF-1.7" + b"x" * (200_000 - 8)):
        assert (await api.upload(data)).status_code == 202


async def test_a_body_announced_too_large_is_refused_before_it_is_read(api: Api) -> None:
    async def never_read() -> Any:
        raise AssertionError("the body was read")
        yield b""

    for kind in ("application/pdf", "multipart/form-data; boundary=x"):
        headers = {"Content-Type": kind, "Content-Length": str(1 << 40)}
        response = await api.call("POST", "/v1/documents", content=never_read(), headers=headers)
        assert_error(response, 413, "too_large", "file")
        assert response.headers["connection"] == "close"


async def test_a_body_that_streams_beyond_the_limit_is_refused_on_the_way(api: Api) -> None:
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        yield b"%PDF-1.7"
        while True:
            sent += 1
            yield b"x" * 65536

    response = await api.call("POST", "/v1/documents", content=endless(), headers={"Content-Type": "application/pdf"})
    assert_error(response, 413, "too_large", "file")
    assert sent < 10


BAD_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"metadata": "not json"}, "metadata"), ({"metadata": "[1]"}, "metadata"), ({"metadata": '"text"'}, "metadata"),
    ({"metadata": '{"a":"\\u0000"}'}, "metadata"), ({"metadata": '{"a":"\\ud800"}'}, "metadata"), ({"metadata": '{"\\u0000":1}'}, "metadata"),
    ({"metadata": '{"a":' + "[" * 100 + "]" * 100 + "}"}, "metadata"), ({"title": "a\x00b"}, "title"), ({"title": ["a", "b"]}, "title"),
    ({"collection_id": "nonsense"}, "collection_id"), ({"if_duplicate": "maybe"}, "if_duplicate"), ({"colour": "red"}, "colour"),
]  # fmt: skip


async def test_a_bad_field_of_an_upload_is_named_and_nothing_is_kept(api: Api) -> None:
    for form, param in BAD_FIELDS:
        assert_error(await api.upload(**form), 422, "invalid_field", param)
    both = await api.call("POST", "/v1/documents?title=x", files={"file": ("a.pdf", a_pdf())}, data={"title": "x"})
    assert_error(both, 422, "invalid_field", "title")
    assert blobs_of(api) == []
    assert (await api.call("GET", "/v1/documents")).json()["data"] == []


async def test_an_absent_collection_is_not_found_and_the_upload_leaves_nothing(api: Api) -> None:
    assert_error(await api.upload(collection_id=str(new_id())), 404, "not_found")
    assert blobs_of(api) == []


async def test_a_form_that_ends_early_is_malformed_and_leaves_nothing(api: Api) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.pdf"\r\n\r\n%PDF-1.7'
    response = await api.call("POST", "/v1/documents", content=body, headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert_error(response, 400, "malformed_multipart")
    unbounded = await api.call("POST", "/v1/documents", content=body, headers={"Content-Type": "multipart/form-data"})
    assert_error(unbounded, 400, "malformed_multipart")
    assert blobs_of(api) == []


async def test_another_content_type_is_not_understood(api: Api) -> None:
    for kind in ("text/plain", "application/json", "application/x-www-form-urlencoded", "", "multipart/mixed; boundary=x"):
        response = await api.call("POST", "/v1/documents", content=a_pdf(), headers={"Content-Type": kind})
        assert_error(response, 415, "unsupported_content_type")


# --- replace -------------------------------------------------------------------------------------------------------------


async def replace(api: Api, document_id: str, data: bytes, **options: Any) -> httpx.Response:
    options = {"headers": {"Content-Type": "application/pdf", **options.pop("headers", {})}, **options}
    return await api.call("PUT", f"/v1/documents/{document_id}/content", content=data, **options)


async def test_a_replacement_is_in_work_beside_the_live_generation_and_then_takes_its_place(api: Api) -> None:
    old, new = a_pdf(), a_pdf()
    document = await api.added(old)
    path = f"/v1/documents/{document['id']}"
    response = await api.call("PUT", f"{path}/content", files={"file": ("new.pdf", new, "application/pdf")})
    assert response.status_code == 202
    between = response.json()
    assert (between["state"], between["generation"], between["filename"], between["sha256"]) == ("ready", 1, "report.pdf", sha256_of(old))
    assert between["replacement"]["generation"] == 2
    assert between["replacement"]["state"] == "queued"
    assert (await api.call("GET", f"{path}/content")).content == old
    await api.work()
    after = (await api.call("GET", path)).json()
    assert (after["generation"], after["filename"], after["sha256"], after["replacement"]) == (2, "new.pdf", sha256_of(new), None)
    assert (await api.call("GET", f"{path}/content")).content == new


async def test_the_live_bytes_again_are_a_duplicate_unless_something_else_is_on_its_way(api: Api) -> None:
    old, new = a_pdf(), a_pdf()
    document = await api.added(old)
    same = await replace(api, document["id"], old)
    assert (same.status_code, same.json()["duplicate"], same.json()["generation"]) == (200, True, 1)
    await replace(api, document["id"], new)
    back = await replace(api, document["id"], old)
    assert back.status_code == 202
    assert back.json()["replacement"]["generation"] == 3
    await api.work()
    assert (await api.call("GET", f"/v1/documents/{document['id']}/content")).content == old


async def test_a_failed_replacement_is_shown_until_it_is_tried_again_or_replaced(api: Api) -> None:
    document = await api.added()
    path = f"/v1/documents/{document['id']}"
    await replace(api, document["id"], a_pdf())
    await api.work(fail=True)
    after = (await api.call("GET", path)).json()
    assert (after["state"], after["generation"], after["replacement"]["state"]) == ("ready", 1, "failed")
    assert after["replacement"]["failure"]["code"] == "damaged"
    assert (await api.call("POST", f"{path}/retry")).status_code == 202
    await api.work()
    assert (await api.call("GET", path)).json()["generation"] == 2


async def test_a_failed_document_may_be_replaced(api: Api) -> None:
    failed, new = await api.failed(), a_pdf()
    response = await replace(api, failed["id"], new, params={"filename": "new name.pdf"})
    assert response.status_code == 202
    await api.work()
    after = (await api.call("GET", f"/v1/documents/{failed['id']}")).json()
    assert (after["state"], after["sha256"], after["filename"], after["failure"]) == ("ready", sha256_of(new), "new name.pdf", None)


async def test_a_replacement_is_refused_like_an_upload(api: Api) -> None:
    document = await api.added()
    assert_error(await replace(api, document["id"], b"<html>"), 415, "not_a_pdf", "file")
    assert_error(await replace(api, str(new_id()), a_pdf()), 404, "not_found")
    assert_error(await replace(api, document["id"], a_pdf(), params={"title": "x"}), 422, "invalid_field", "title")
    form = await api.call("PUT", f"/v1/documents/{document['id']}/content", files={"file": ("a.pdf", a_pdf())}, data={"title": "x"})
    assert_error(form, 422, "invalid_field", "title")
    assert (await api.call("GET", f"/v1/documents/{document['id']}")).json()["replacement"] is None


# --- read, patch, retry, delete ------------------------------------------------------------------------------------------


async def test_a_document_has_a_strong_etag_that_changes_with_it(api: Api) -> None:
    document = await api.added()
    path = f"/v1/documents/{document['id']}"
    tag = (await api.call("GET", path)).headers["etag"]
    for given in (tag, f'"other", {tag}', "*", f"W/{tag}"):
        unchanged = await api.call("GET", path, headers={"If-None-Match": given})
        assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", tag)
    assert (await api.call("GET", path, headers={"If-None-Match": '"other"'})).status_code == 200
    collection = await api.collection()
    await api.call("PUT", f"/v1/collections/{collection['id']}/documents/{document['id']}", json={})
    assert (await api.call("GET", path, headers={"If-None-Match": tag})).status_code == 200


async def test_a_patch_merges_clears_and_minds_the_etag(api: Api) -> None:
    document = await api.added(title="First", metadata={"a": 1, "deep": {"x": 1, "y": 2}})
    path = f"/v1/documents/{document['id']}"
    tag = (await api.call("GET", path)).headers["etag"]
    patch = {"title": "Patched", "metadata": {"b": 2, "a": None, "deep": {"x": None, "z": 3}}}
    patched = await api.call("PATCH", path, json=patch, headers={"If-Match": tag})
    assert (patched.status_code, patched.json()["title"], patched.json()["metadata"]) == (200, "Patched", {"b": 2, "deep": {"y": 2, "z": 3}})
    assert patched.headers["etag"] == (await api.call("GET", path)).headers["etag"] != tag
    assert_error(await api.call("PATCH", path, json={"title": "lost"}, headers={"If-Match": tag}), 412, "precondition_failed")
    cleared = (await api.call("PATCH", path, json={"title": None, "metadata": None})).json()
    assert (cleared["title"], cleared["metadata"]) == (None, {})
    truth = (await api.call("PATCH", path, json={"metadata": {"flag": 1}})).json()["metadata"]["flag"]
    changed = (await api.call("PATCH", path, json={"metadata": {"flag": True}})).json()["metadata"]["flag"]
    assert (truth, changed) == (1, True)
    assert changed is True
    nothing = await api.call("PATCH", path, json={})
    assert nothing.headers["etag"] == (await api.call("GET", path)).headers["etag"]


BAD_PATCHES: list[tuple[Any, str | None]] = [
    ({"title": {"x": 1}}, "title"), ({"metadata": [1]}, "metadata"), ({"colour": 1}, "colour"), ({"filename": "x"}, "filename"),
    ({"title": "\x00"}, "title"), ({"metadata": {"a": {"b": "\x00"}}}, "metadata"), ([], None), ("text", None), (None, None),
]  # fmt: skip


async def test_a_patch_of_a_wrong_kind_is_refused(api: Api) -> None:
    document = await api.added()
    for body, param in BAD_PATCHES:
        assert_error(await api.call("PATCH", f"/v1/documents/{document['id']}", json=body), 422, "invalid_field", param)


async def test_half_a_surrogate_pair_is_named_and_not_stored(api: Api) -> None:
    document = await api.added()
    path, kind = f"/v1/documents/{document['id']}", {"Content-Type": "application/json"}
    for body, param in ((b'{"title":"\\ud800"}', "title"), (b'{"metadata":{"a":["\\udfff"]}}', "metadata")):
        assert_error(await api.call("PATCH", path, content=body, headers=kind), 422, "invalid_field", param)


async def test_only_what_failed_can_be_tried_again(api: Api) -> None:
    ready, failed = await api.added(), await api.failed()
    assert_error(await api.call("POST", f"/v1/documents/{ready['id']}/retry"), 409, "not_failed")
    again = await api.call("POST", f"/v1/documents/{failed['id']}/retry")
    assert (again.status_code, again.json()["state"], again.json()["failure"]) == (202, "queued", None)
    assert_error(await api.call("POST", f"/v1/documents/{failed['id']}/retry"), 409, "not_failed")


async def test_a_deleted_document_is_gone_everywhere_at_once(api: Api) -> None:
    document, collection = await api.added(), await api.collection()
    path = f"/v1/documents/{document['id']}"
    await api.call("PUT", f"/v1/collections/{collection['id']}/documents/{document['id']}", json={})
    gone = await api.call("DELETE", path)
    assert (gone.status_code, gone.json()) == (202, {"id": document["id"], "object": "document", "deleted": True})
    for method, suffix in (
        ("GET", ""), ("GET", "/content"), ("GET", "/pages/1"), ("GET", "/pages/1.png"), ("GET", "/events"), ("DELETE", ""), ("POST", "/retry"),
    ):  # fmt: skip
        assert_error(await api.call(method, path + suffix), 404, "not_found")
    assert_error(await api.call("PATCH", path, json={"title": "x"}), 404, "not_found")
    assert_error(await replace(api, document["id"], a_pdf()), 404, "not_found")
    assert (await api.call("GET", "/v1/documents")).json()["data"] == []
    assert (await api.call("GET", f"/v1/collections/{collection['id']}")).json()["document_count"] == 0


# --- lists ---------------------------------------------------------------------------------------------------------------


async def test_lists_page_newest_first_and_are_stable_under_inserts(api: Api) -> None:
    made = [(await api.upload(filename=f"{n}.pdf")).json()["id"] for n in range(5)]
    first = (await api.call("GET", "/v1/documents", params={"limit": 2})).json()
    assert (first["object"], first["has_more"]) == ("list", True)
    await api.upload()
    second = (await api.call("GET", "/v1/documents", params={"limit": 2, "after": first["next_cursor"]})).json()
    third = (await api.call("GET", "/v1/documents", params={"limit": 2, "after": second["next_cursor"]})).json()
    assert [row["id"] for page in (first, second, third) for row in page["data"]] == made[::-1]
    assert (third["has_more"], third["next_cursor"]) == (False, None)


async def test_lists_are_filtered(api: Api) -> None:
    red = (await api.upload(filename="annual summary.pdf", metadata={"colour": "red", "n": 1, "flag": True})).json()
    blue = await api.added(filename="b.pdf", title="Copper mines", metadata={"colour": "blue"})

    async def found(**query: str) -> set[str]:
        response = await api.call("GET", "/v1/documents", params=query)
        assert response.status_code == 200, response.text
        return {row["id"] for row in response.json()["data"]}

    await api.work()
    assert await found() == {red["id"], blue["id"]}
    assert await found(filename="b.pdf") == await found(q="copper") == await found(**{"metadata.colour": "blue"}) == {blue["id"]}
    assert await found(**{"metadata.n": "1", "metadata.flag": "true"}) == await found(q="summary") == {red["id"]}
    assert await found(created_after=blue["created_at"]) == {blue["id"]}
    assert await found(created_before=blue["created_at"]) == {red["id"]}
    assert await found(state="failed") == await found(collection_id=str(new_id())) == await found(**{"metadata.absent": "x"}) == set()


BAD_QUERIES = [
    ("limit=0", "limit"), ("limit=201", "limit"), ("limit=x", "limit"), ("after=not-a-cursor", "after"), ("state=odd", "state"),
    ("created_after=yesterday", "created_after"), ("created_before=2020-13-01T00:00:00Z", "created_before"), ("created_before=5", "created_before"),
    ("created_after=0001-01-01T00:00:00%2B14:00", "created_after"), ("collection_id=x", "collection_id"), ("colour=1", "colour"),
    ("q=%00", "q"), ("metadata.a=%00", "metadata.a"), ("metadata.a=1&metadata.a=2", "metadata.a"), ("metadata=1", "metadata"),
]  # fmt: skip


async def test_a_bad_query_parameter_is_named(api: Api) -> None:
    for query, param in BAD_QUERIES:
        assert_error(await api.call("GET", f"/v1/documents?{query}"), 422, "invalid_field", param)


# --- bytes and pages -----------------------------------------------------------------------------------------------------


async def test_the_bytes_come_back_whole_and_in_ranges(api: Api) -> None:
    data = a_pdf(size=1000)
    document = await api.added(data, filename='a "q" é.pdf')
    path, size = f"/v1/documents/{document['id']}/content", len(data)
    whole = await api.call("GET", path)
    assert (whole.status_code, whole.content, whole.headers["content-type"]) == (200, data, "application/pdf")
    assert (whole.headers["content-length"], whole.headers["accept-ranges"]) == (str(size), "bytes")
    assert whole.headers["content-disposition"].endswith("filename*=UTF-8''a%20%22q%22%20%C3%A9.pdf")
    tag = whole.headers["etag"]
    part = await api.call("GET", path, headers={"Range": "bytes=10-19", "If-Range": tag})
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, data[10:20], f"bytes 10-19/{size}")
    assert (await api.call("GET", path, headers={"Range": "bytes=10-19", "If-Range": '"other"'})).content == data
    assert (await api.call("GET", path, headers={"If-None-Match": tag})).status_code == 304
    past = await api.call("GET", path, headers={"Range": f"bytes={size}-"})
    assert_error(past, 416, "range_not_satisfiable")
    assert past.headers["content-range"] == f"bytes */{size}"


async def test_a_page_has_words_and_boxes(api: Api) -> None:
    document = await api.added()
    page = (await api.call("GET", f"/v1/documents/{document['id']}/pages/2")).json()
    assert (page["page"], page["width"], page["rotation"], len(page["words"])) == (2, 595.28, 0, 6)
    assert page["words"][0] == {"text": "word20", "bbox": [72.0, 90.25, 110.5, 102.0]}
    assert page["text"].endswith("word25")
    assert page["words"][-1]["text"] == "word25-"


async def test_a_page_that_does_not_exist_is_not_found(api: Api) -> None:
    document = await api.added()
    for number in ("0", "3", "-1", "999999999999", "99999999999999999999", "one", "1.5", "%00", "1e0", "+1", "1.0"):
        for suffix in ("", ".png"):
            assert_error(await api.call("GET", f"/v1/documents/{document['id']}/pages/{number}{suffix}"), 404, "not_found")


async def test_a_page_is_drawn_with_its_boxes_marked_and_has_an_etag(api: Api) -> None:
    document = await api.added()
    path = f"/v1/documents/{document['id']}/pages/1.png"
    picture = await api.call("GET", path, params={"scale": 1.5, "highlight": "1,2,3,4;5,6,7.5,8"})
    assert (picture.status_code, picture.headers["content-type"], picture.content) == (200, "image/png", white_point())
    assert api.pictures.asked == [(1, 1.5, ((1.0, 2.0, 3.0, 4.0), (5.0, 6.0, 7.5, 8.0)))]
    plain = await api.call("GET", path)
    assert plain.headers["etag"] != picture.headers["etag"]
    assert (await api.call("GET", path, headers={"If-None-Match": plain.headers["etag"]})).status_code == 304
    most = ";".join(["1,1,9,9"] * 200)
    assert (await api.call("GET", path, params={"scale": 0.5, "highlight": most})).status_code == 200
    api.pictures.error = ExtractionFailed("time_limit")
    assert_error(await api.call("GET", path, params={"scale": 4}), 503, "unavailable")


BAD_PICTURES = [
    ("scale=0.4", "scale"), ("scale=4.1", "scale"), ("scale=big", "scale"), ("scale=nan", "scale"), ("scale=inf", "scale"),
    ("highlight=1,2,3", "highlight"), ("highlight=a,b,c,d", "highlight"), ("highlight=nan,1,2,3", "highlight"),
    ("highlight=3,1,2,3", "highlight"), ("highlight=1,1,inf,3", "highlight"), ("highlight=" + ";".join(["1,1,9,9"] * 201), "highlight"),
]  # fmt: skip


async def test_a_picture_that_cannot_be_is_refused(api: Api) -> None:
    document = await api.added()
    for query, param in BAD_PICTURES:
        assert_error(await api.call("GET", f"/v1/documents/{document['id']}/pages/1.png?{query}"), 422, "invalid_field", param)


async def test_a_sender_that_goes_away_leaves_nothing(api: Api) -> None:
    """The fixture looks for files left in the staging folder."""
    begin = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.pdf"\r\n\r\n%PDF-1.7'
    for kind, body in ((b"application/pdf", b"%PDF-1.7 " + b"x" * 5000), (b"multipart/form-data; boundary=x", begin)):
        sent: list[Any] = []
        messages = [{"type": "http.disconnect"}, {"type": "http.request", "body": body, "more_body": True}]

        async def receive(messages: list[Any] = messages) -> Any:
            return messages.pop()

        async def send(message: Any, sent: list[Any] = sent) -> None:
            sent.append(message)

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": "/v1/documents",
            "raw_path": b"/v1/documents", "root_path": "", "scheme": "http", "query_string": b"", "server": ("docray", 80),
            "headers": [(b"authorization", f"Bearer {api.secret}".encode()), (b"content-type", kind)],
        }  # fmt: skip
        await api.app(scope, receive, send)
        assert (sent, messages) == ([], [])
    assert blobs_of(api) == []
