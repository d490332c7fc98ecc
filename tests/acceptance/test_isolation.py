"""Two tenants: one with documents, the other with every id of the first and nothing else. Foreign and absent must look the same."""

import io
import json
import re
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from docray.client import Client
from docray.domain.ids import new_id
from docray.instance.files import InstanceFiles
from tests.acceptance.conftest import Running
from tests.pdf_factory import lines, pdf

CANARY = f"Canary{uuid.uuid4().hex}"
BODIES: dict[str, Any] = {
    "PATCH /v1/documents/{document_id}": {"title": "taken"},
    "PATCH /v1/collections/{collection_id}": {"description": "taken"},
    "PUT /v1/collections/{collection_id}/documents/{document_id}": {"attributes": {}},
}


@pytest.fixture(scope="module")
def victim(instance: Running) -> Iterator[dict[str, str]]:
    with instance.client() as client:
        collection = client.call("POST", "/v1/collections", json={"name": CANARY})
        data = pdf([lines(f"The {CANARY} valve was opened in 1913.")])
        document = client.wait(client.upload(io.BytesIO(data), filename=f"{CANARY}.pdf", collection_ids=[collection["id"]])["id"], timeout_s=120)
        key = client.call("POST", "/v1/api-keys", json={"name": CANARY, "scopes": ["search"]})
        job_id = str(new_id())  # of nobody: tests/isolation has real jobs
        reindex_id = client.call("POST", "/v1/reindexes", json={})["id"]
        yield {"document_id": document["id"], "collection_id": collection["id"], "key_id": key["id"], "job_id": job_id, "reindex_id": reindex_id}
        client.call("POST", f"/v1/reindexes/{reindex_id}/rollback")
        client.delete(document["id"])


@pytest.fixture(scope="module")
def stranger(instance: Running) -> Iterator[Client]:
    with instance.client() as operator:
        made = operator.call("POST", "/v1/tenants", json={"name": f"stranger {uuid.uuid4().hex}"})
    with instance.client(made["api_key"]["secret"]) as client:
        yield client


def routes(url: str) -> list[tuple[str, str]]:
    """Every route with an id in its path, from the product's own OpenAPI."""
    described = httpx.get(f"{url}/openapi.json", trust_env=False).json()
    return [
        (method.upper(), path)
        for path, methods in described["paths"].items()
        for method in methods
        if "{" in path and method in ("get", "put", "post", "patch", "delete")
    ]


def filled(path: str, ids: dict[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        name = match[1]
        return ids.get(name, "1")

    return re.sub(r"\{([^}:]+)[^}]*\}", value, path)


def sent(client: Client, method: str, path: str, ids: dict[str, str]) -> httpx.Response:
    options: dict[str, Any] = {}
    if method == "PUT" and path.endswith("/content"):
        options = {"content": pdf([lines("x")]), "headers": {"Content-Type": "application/pdf"}}
    elif method in ("PATCH", "PUT", "POST"):
        options = {"json": BODIES.get(f"{method} {path}", {})} if f"{method} {path}" in BODIES else {}
    return client._http.request(method, filled(path, ids), **options)


def without_request_id(response: httpx.Response) -> Any:
    body = response.json()
    body["error"].pop("request_id")
    return body


def test_every_route_answers_a_foreign_id_like_an_absent_one(instance: Running, victim: dict[str, str], stranger: Client) -> None:
    absent = {name: str(new_id()) for name in victim}
    found = routes(instance.url)
    assert len(found) >= 15
    for method, path in found:
        foreign, nothing = (sent(stranger, method, path, ids) for ids in (victim, absent))
        assert (foreign.status_code, nothing.status_code) == (404, 404), f"{method} {path}: {foreign.text} {nothing.text}"
        assert without_request_id(foreign) == without_request_id(nothing), f"{method} {path}"
        assert CANARY not in foreign.text


def test_every_route_without_ids_shows_nothing_of_the_other_tenant(victim: dict[str, str], stranger: Client) -> None:
    for path in (
        "/v1/documents",
        "/v1/collections",
        "/v1/api-keys",
        "/v1/reindexes",
        "/v1/me",
        "/v1/status",
        f"/v1/documents?q={CANARY}",
        f"/v1/documents?collection_id={victim['collection_id']}",
    ):
        shown = json.dumps(stranger.call("GET", path))
        assert CANARY not in shown
        assert not any(identity in shown for identity in victim.values())


@pytest.mark.parametrize("scope", [{}, {"document_ids": "document_id"}, {"collection_ids": "collection_id"}])
def test_search_and_ask_with_foreign_ids_in_the_body_find_nothing(victim: dict[str, str], stranger: Client, scope: dict[str, str]) -> None:
    restricted = {name: [victim[which]] for name, which in scope.items()}
    for mode in ("hybrid", "dense", "keyword"):
        assert stranger.search(f"{CANARY} valve opened", mode=mode, **restricted)["results"] == []
    answer = stranger.ask(f"When was the {CANARY} valve opened?", **restricted)
    assert (answer["refused"], answer["refusal_reason"], answer["search_results"]) == (True, "no_documents", [])


def test_uploading_into_a_foreign_collection_is_refused_and_the_same_bytes_are_another_document(victim: dict[str, str], stranger: Client) -> None:
    data = pdf([lines(f"The {CANARY} valve was opened in 1913.")])
    refused = stranger._http.post(
        "/v1/documents", data={"collection_id": victim["collection_id"]}, files={"file": ("x.pdf", data, "application/pdf")}
    )
    assert refused.status_code == 404
    mine = stranger.upload(io.BytesIO(data))
    assert mine["id"] != victim["document_id"]
    assert "duplicate" not in mine
    stranger.delete(mine["id"])


def test_nothing_of_the_victim_changed(instance: Running, victim: dict[str, str]) -> None:
    with instance.client() as client:
        document = client.document(victim["document_id"])
        assert (document["title"], document["state"], document["collection_ids"]) == (None, "ready", [victim["collection_id"]])
        assert client.call("GET", f"/v1/collections/{victim['collection_id']}")["description"] is None
        assert client.call("GET", f"/v1/api-keys/{victim['key_id']}")["revoked_at"] is None


# --- what operators see -----------------------------------------------------------------------------------------------


def told_by(instance: Running) -> Iterator[tuple[str, str]]:
    """Every log and event file of the instance's processes, and every metric that they export, with its name."""
    files = InstanceFiles.of(instance.data_dir)
    for folder in (files.logs, files.run):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                yield str(path), path.read_bytes().decode("utf-8", "replace")
    targets = json.loads((files.run / "ray" / "prom_metrics_service_discovery.json").read_text())[0]["targets"]
    shown = [path.read_text() for path in files.run.rglob("*.cfg")]
    ports = {port for text in shown for port in re.findall(r"bind \S*:(\d+)(?=(?:\n[ \t].*)*\n[ \t].*prometheus)", text)}
    for target in [*targets, *(f"127.0.0.1:{port}" for port in ports)]:
        yield f"metrics of {target}", httpx.get(f"http://{target}/metrics", trust_env=False, timeout=30).text


def serve_metrics(instance: Running) -> str:
    """What Serve's processes export now."""
    return "\n".join(line for name, text in told_by(instance) if name.startswith("metrics") for line in text.splitlines() if "ray_serve" in line)


def test_no_log_event_or_metric_tells_what_was_written_asked_or_secret(instance: Running, victim: dict[str, str], stranger: Client) -> None:
    asked = f"Asked{uuid.uuid4().hex}"
    with instance.client() as client:
        secret = client.call("POST", "/v1/api-keys", json={"name": asked, "scopes": ["search"]})["secret"]
        broken = client.upload(io.BytesIO(b"%PDF-1.7 " + asked.encode()), filename=f"{asked}.pdf", title=asked, metadata={asked: asked})
        for who in (client, stranger):
            for method, path, options in (
                ("POST", "/v1/search", {"json": {"query": f"{CANARY} {asked}"}}),
                ("POST", "/v1/ask", {"json": {"question": f"When was the {CANARY} valve opened, {asked}?"}}),
                ("POST", "/v1/ask", {"json": {"question": f"When was the {CANARY} valve opened, {asked}?", "stream": True}}),
                ("POST", "/v1/search", {"content": f'{{"query": "{asked}'.encode(), "headers": {"Content-Type": "application/json"}}),
                ("GET", "/v1/documents", {"params": {"q": asked, "filename": asked, f"metadata.{asked}": asked}}),
                ("GET", f"/v1/{asked}", {}),
                ("GET", f"/v1/documents/{asked}", {"headers": {"X-Request-Id": "known", "If-None-Match": asked}}),
                ("GET", f"/{asked}", {"headers": {"Authorization": f"Bearer {secret}"}}),
                ("POST", "/v1/collections", {"json": {"name": asked}, "headers": {"Idempotency-Key": asked}}),
                ("POST", "/v1/collections", {"json": {"name": asked}}),
            ):
                who._http.request(method, path, **options)
        assert client.wait(broken["id"], timeout_s=120)["state"] == "failed"
        for collection in client.call("GET", "/v1/collections")["data"]:
            if collection["name"] == asked:
                client.call("DELETE", f"/v1/collections/{collection['id']}")
        client.delete(broken["id"])
    first, told, end = serve_metrics(instance), dict(told_by(instance)), time.monotonic() + 60
    while serve_metrics(instance) in ("", first) and time.monotonic() < end:
        time.sleep(1)  # they are exported every few seconds: the next ones are of after these requests
    told |= told_by(instance)
    print("\n".join(told))
    for name, text in told.items():
        found = [word for word in (CANARY, asked, secret, instance.api_key) if word in text]
        assert found == [], f"{name}: {text[max(0, text.index(found[0]) - 300) :][:600]}"
    assert any('"action":"request"' in text for text in told.values()), list(told)
    assert serve_metrics(instance) != first
