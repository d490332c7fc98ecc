"""The whole product as processes, over HTTP only: upload → ready → search → ask → picture → replace → delete → gone."""

import io
import json
import uuid

import pytest
from PIL import Image

from docray.client import ApiError, Client
from tests.acceptance.conftest import Running
from tests.pdf_factory import lines, pdf


def report(secret: str) -> bytes:
    """Two pages, one known sentence on the second."""
    first = lines("Minutes of the committee", "The committee met in the usual room and approved the agenda.")
    second = lines(f"The {secret} reactor was inspected in 1931 and reached 4711 degrees.", "Nothing else happened on that day.")
    return pdf([first, second])


def test_a_document_lives_from_upload_to_purge(client: Client) -> None:
    old, new = (f"Zan{uuid.uuid4().hex[:8]}" for _ in range(2))
    document = client.wait(client.upload(io.BytesIO(report(old)), filename="report.pdf", title="Report")["id"], timeout_s=120)
    assert (document["state"], document["page_count"]) == ("ready", 2)
    only = {"document_ids": [document["id"]]}

    hit = client.search(f"{old} reactor degrees", **only)["results"][0]
    assert old in hit["text"]
    assert [page["page"] for page in hit["pages"]] in ([2], [1, 2])

    answer = client.ask(f"How many degrees did the {old} reactor reach?", **only)
    citation = answer["citations"][0]
    assert (citation["page"], answer["refused"]) == (2, False)
    assert "4711" in citation["quote"]
    start, end = citation["span"]
    assert answer["answer"][start:end] == citation["quote"]

    box = ",".join(map(str, citation["bboxes"][0]))
    plain, marked = (picture(client, document["id"], 2, query) for query in ("scale=1", f"scale=1&highlight={box}"))
    assert plain.size == (612, 792)
    x0, y0, x1, _ = citation["bboxes"][0]
    assert plain.getpixel((int((x0 + x1) / 2), int(y0) + 1)) != marked.getpixel((int((x0 + x1) / 2), int(y0) + 1))

    client.call("PUT", f"/v1/documents/{document['id']}/content", content=report(new), headers={"Content-Type": "application/pdf"})
    while (now := client.document(document["id"]))["replacement"]:
        assert now["state"] == "ready"
        assert now["replacement"]["failure"] is None
    assert now["generation"] == 2
    assert new in client.search(f"{new} reactor", **only)["results"][0]["text"]
    assert all(old not in each["text"] for each in client.search(f"{old} reactor", **only)["results"])

    client.delete(document["id"])
    assert client.search(f"{new} reactor", **only)["results"] == []
    with pytest.raises(ApiError) as refused:
        client.document(document["id"])
    assert refused.value.code == "not_found"
    assert client.ask(f"How many degrees did the {new} reactor reach?", **only)["refusal_reason"] == "no_documents"


def picture(client: Client, document_id: str, page: int, query: str) -> Image.Image:
    response = client._http.get(f"/v1/documents/{document_id}/pages/{page}.png?{query}")
    assert response.status_code == 200
    return Image.open(io.BytesIO(response.content)).convert("RGB")


def test_a_streamed_answer_is_the_plain_one(client: Client) -> None:
    secret = f"Zan{uuid.uuid4().hex[:8]}"
    document = client.wait(client.upload(io.BytesIO(report(secret)))["id"], timeout_s=120)
    question, only = f"When was the {secret} reactor inspected?", {"document_ids": [document["id"]]}
    events = list(client.ask_stream(question, **only))
    plain = client.ask(question, **only)
    assert "".join(data["delta"] for kind, data in events if kind == "message") == events[-1][1]["answer"] == plain["answer"]
    assert [kind for kind, _ in events][:1] + [kind for kind, _ in events][-1:] == ["search_results", "final_answer"]
    client.delete(document["id"])


def test_a_password_is_a_failure_that_a_user_understands_and_the_next_file_still_works(client: Client, shared_data) -> None:
    failed = client.wait(client.upload(shared_data / "badpdf" / "gen__password.pdf")["id"], timeout_s=120)
    assert (failed["state"], failed["failure"]["code"]) == ("failed", "encrypted")
    assert "password" in failed["failure"]["message"]
    good = client.wait(client.upload(io.BytesIO(report(uuid.uuid4().hex)))["id"], timeout_s=120)
    assert good["state"] == "ready"
    for document in (failed, good):
        client.delete(document["id"])


def test_what_listens_is_on_loopback_only(instance: Running) -> None:
    import psutil

    family = [psutil.Process(instance.pid), *psutil.Process(instance.pid).children(recursive=True)]
    exposed = {
        (process.name(), connection.laddr.ip, connection.laddr.port)
        for process in family
        for connection in process.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.ip not in ("127.0.0.1", "::1", "::ffff:127.0.0.1")
    }
    # Serve's own replica-to-replica gRPC listens on every interface (not configurable in Ray 2.60) and asks for the instance's token.
    assert {name for name, _, _ in exposed} <= {name for name, _, _ in exposed if name.startswith("ray::")}


def test_instance_json_is_the_owners_alone_and_names_the_instance(instance: Running) -> None:
    path = instance.data_dir / "instance.json"
    assert path.stat().st_mode & 0o077 == 0
    assert set(json.loads(path.read_text(encoding="utf-8"))) == {"url", "dashboard_url", "data_dir", "api_key", "pid"}


def test_the_ray_dashboard_works_and_asks_for_its_token(instance: Running) -> None:
    import httpx

    url = json.loads((instance.data_dir / "instance.json").read_text(encoding="utf-8"))["dashboard_url"]
    token = (instance.data_dir / "secrets" / "ray_token").read_text(encoding="utf-8")
    applications = f"{url}/api/serve/applications/"
    assert httpx.get(applications, trust_env=False).status_code in (401, 403)
    found = httpx.get(applications, headers={"Authorization": f"Bearer {token}"}, trust_env=False).json()["applications"]
    assert {name: application["status"] for name, application in found.items()} == {"docray": "RUNNING", "ingest": "RUNNING"}
