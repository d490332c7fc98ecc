"""A document's events over HTTP."""

import asyncio
from typing import Any

from api_harness import Api, a_pdf, assert_error, events_of
from catalog_factories import take_to

from docray.api.event_stream import Feed
from docray.domain.documents import Stage, State
from docray.domain.ids import new_id


async def stream(api: Api, document_id: str, last: str | None = None) -> list[tuple[str, Any, str | None]]:
    headers = {"Last-Event-ID": last} if last is not None else {}
    response = await asyncio.wait_for(api.call("GET", f"/v1/documents/{document_id}/events", headers=headers), 20)
    assert response.headers["content-type"].startswith("text/event-stream"), response.text
    return events_of(response.text)


def names(events: list[tuple[str, Any, str | None]]) -> list[str]:
    return [name for name, _, _ in events]


async def test_events_tell_progress_and_end_with_ready(api: Api) -> None:
    document = (await api.upload()).json()
    lease = await api.queue.lease("worker", 60.0)
    assert lease is not None
    following = asyncio.create_task(stream(api, document["id"]))
    for pages in range(3):
        await api.queue.progress(lease, Stage.EXTRACT, pages, 2)
        await asyncio.wait({following}, timeout=0.4)
    await take_to(api.queue, lease, State.READY)
    events = await following
    assert set(names(events)[:-1]) == {"progress"}
    assert names(events)[-1] == "ready"
    done = [data["progress"]["pages_done"] for _, data, _ in events]
    assert done == sorted(done)
    ids = [identity for _, _, identity in events]
    assert len(set(ids)) == len(ids)
    assert None not in ids
    first, last = ids[0], ids[-1]
    assert [(name, identity) for name, _, identity in await stream(api, document["id"])] == [("ready", last)]
    assert [(name, identity) for name, _, identity in await stream(api, document["id"], first)] == [("ready", last)]
    assert [(name, identity) for name, _, identity in await stream(api, document["id"], last)] == [("ready", last)]
    assert names(await stream(api, document["id"], "nonsense")) == names(await stream(api, document["id"], "9" * 18)) == ["ready"]


async def test_events_end_with_failed(api: Api) -> None:
    failed = await api.failed()
    events = await stream(api, failed["id"])
    assert names(events) == ["failed"]
    assert events[0][1]["failure"]["code"] == "damaged"


async def test_events_end_with_deleted_for_those_who_are_connected(api: Api) -> None:
    document = (await api.upload()).json()
    following = asyncio.create_task(stream(api, document["id"]))
    await asyncio.wait({following}, timeout=0.5)
    await api.call("DELETE", f"/v1/documents/{document['id']}")
    events = await following
    assert names(events) == ["progress", "deleted"]
    assert events[-1][1] == {"id": document["id"], "object": "document", "deleted": True}
    assert int(events[-1][2] or 0) > int(events[0][2] or 0)
    assert_error(await api.call("GET", f"/v1/documents/{document['id']}/events"), 404, "not_found")
    assert_error(await api.call("GET", f"/v1/documents/{new_id()}/events"), 404, "not_found")


async def test_a_replacement_is_followed_until_it_ends(api: Api) -> None:
    document = await api.added()
    path = f"/v1/documents/{document['id']}/content"
    for fail, end in ((True, "failed"), (False, "ready")):
        await api.call("PUT", path, content=a_pdf(), headers={"Content-Type": "application/pdf"})
        following = asyncio.create_task(stream(api, document["id"]))
        await asyncio.wait({following}, timeout=0.5)
        await api.work(fail=fail)
        events = await following
        assert names(events)[0] == "progress"
        assert events[0][1]["state"] == "ready"
        assert events[0][1]["replacement"]["state"] == "queued"
        assert names(events)[-1] == end
    assert events[-1][1]["replacement"] is None


async def test_a_silent_stream_is_kept_alive_by_comments() -> None:
    waiting = asyncio.Event()

    async def source() -> Any:
        yield b"one"
        await waiting.wait()
        yield b"two"

    feed, seen = await Feed(source()).open(), []
    async for piece in feed.pieces(keep_alive_s=0.01):
        seen.append(piece)
        if len(seen) == 3:
            waiting.set()
    await feed.close()
    assert (seen[0], seen[1], seen[-1]) == (b"one", b": keep-alive\n\n", b"two")
