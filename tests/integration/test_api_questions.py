"""Search and ask over HTTP, whole and streamed."""

import asyncio
from typing import Any

import orjson
from api_harness import Api, a_hit, assert_error, events_of, until

from docray.domain.errors import Unavailable
from docray.domain.ids import new_id
from docray.domain.questions import SearchMode


async def test_a_search_is_passed_on_and_its_hits_are_written_as_the_contract_says(api: Api) -> None:
    api.search.hits = (hit := a_hit(),)
    collection, document = new_id(), new_id()
    body = {
        "query": "who met?", "limit": 3, "mode": "keyword", "collection_ids": [str(collection)], "document_ids": [str(document)], "rerank": False,
        "merge_neighbours": False,
    }  # fmt: skip
    response = await api.call("POST", "/v1/search", json=body)
    assert response.status_code == 200
    request = api.search.requests[0]
    assert (request.query, request.limit, request.mode, request.rerank, request.merge_neighbours) == ("who met?", 3, SearchMode.KEYWORD, False, False)
    assert (request.scope.collection_ids, request.scope.document_ids, request.scope.filter) == ((collection,), (document,), None)
    place = hit.pages[0]
    assert response.json() == {
        "object": "search_results",
        "query": "who met?",
        "results": [
            {
                "rank": 1, "score": 0.03, "scores": {"dense": 0.6, "keyword": None, "rerank": None}, "chunk_id": str(hit.chunk_id),
                "document": {
                    "id": str(hit.document.id), "filename": "report.pdf", "title": None,
                    "collection_ids": [str(each) for each in hit.document.collection_ids], "metadata": {"year": 2021},
                },
                "generation": 1, "text": hit.text, "snippet": hit.snippet, "heading_path": list(hit.heading_path),
                "pages": [{"page": place.page, "width": place.width, "height": place.height, "bboxes": [list(box) for box in place.boxes]}],
            }
        ],
        "degraded": [],
        "timings_ms": {"embed": 1.0, "retrieve": 1.0, "authority": 1.0, "total": 3.0},
    }  # fmt: skip


async def test_empty_lists_restrict_nothing(api: Api) -> None:
    await api.call("POST", "/v1/search", json={"query": "x", "collection_ids": [], "document_ids": [], "filter": {}})
    assert api.search.requests[0].scope.unrestricted


async def test_a_question_is_answered_whole(api: Api) -> None:
    response = await api.call("POST", "/v1/ask", json={"question": "who met?"})
    answer = response.json()
    assert (response.status_code, answer["object"], answer["answer"], answer["refused"]) == (200, "answer", "The committee met. [1]", False)
    assert (answer["citations"][0]["span"], answer["citations"][0]["quote"]) == ([0, 18], "The committee met.")
    assert answer["citations"][0]["chunk_id"] == answer["search_results"][0]["chunk_id"]
    assert answer["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "cost_usd": 0.0}
    assert api.answers.closed == 1


async def test_a_streamed_answer_has_its_events_in_order(api: Api) -> None:
    response = await api.call("POST", "/v1/ask", json={"question": "who met?", "stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    events = events_of(response.text)
    assert [name for name, _, _ in events] == ["search_results", "message", "message", "citation", "final_answer"]
    assert events[0][1]["object"] == "search_results"
    assert "".join(data["delta"] for name, data, _ in events if name == "message") == events[-1][1]["answer"]
    assert events[3][1] == events[-1][1]["citations"][0]


async def test_what_goes_wrong_before_the_first_event_is_a_plain_error_and_after_it_an_event(api: Api) -> None:
    body = {"question": "x", "stream": True}
    api.answers.error_before = Unavailable()
    assert_error(await api.call("POST", "/v1/ask", json=body), 503, "unavailable")
    api.answers.error_before = None
    for error, code in ((Unavailable(), "unavailable"), (RuntimeError("/home/somebody"), "internal")):
        api.answers.error_after = error
        response = await api.call("POST", "/v1/ask", json=body, headers={"X-Request-Id": "r-1"})
        events = events_of(response.text)
        assert (response.status_code, [name for name, _, _ in events]) == (200, ["search_results", "message", "error"])
        assert (events[-1][1]["error"]["code"], events[-1][1]["error"]["request_id"]) == (code, "r-1")
        assert "somebody" not in response.text
    assert api.answers.closed == 3


async def test_a_client_that_leaves_stops_the_answer(api: Api) -> None:
    api.answers.gate.clear()
    for stream in (True, False):
        sent: list[dict[str, Any]] = []
        left = asyncio.Event()
        messages = [{"type": "http.request", "body": orjson.dumps({"question": "x", "stream": stream}), "more_body": False}]

        async def receive(messages: list[Any] = messages, left: asyncio.Event = left) -> Any:
            if messages:
                return messages.pop()
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any, sent: list[Any] = sent, left: asyncio.Event = left) -> None:
            sent.append(message)
            if b"event: message" in message.get("body", b""):
                left.set()

        headers = [
            (b"authorization", f"Bearer {api.secret}".encode()), (b"content-type", b"application/json"), (b"idempotency-key", str(new_id()).encode())
        ]  # fmt: skip
        scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1", "method": "POST", "path": "/v1/ask",
            "raw_path": b"/v1/ask", "root_path": "", "scheme": "http", "query_string": b"", "headers": headers, "server": ("docray", 80),
        }  # fmt: skip
        answering = asyncio.create_task(api.app(scope, receive, send))
        if not stream:

            async def asked() -> bool:
                return len(api.answers.questions) == 2

            await until(asked)
            left.set()
        await asyncio.wait_for(answering, 10)
        assert [message.get("more_body") for message in sent][-1:] == ([True] if stream else [])
    assert api.answers.closed == 2
