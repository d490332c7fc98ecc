"""Each part is killed with SIGKILL, by its process id; it comes back by itself, and what was accepted is there, once."""

import io
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator

import psutil
import pytest

from docray.client import Client, ClientError
from tests.acceptance.conftest import Running, docray, down, up
from tests.pdf_factory import lines, pdf

PATIENCE_S = 300.0  # a bound, not a promise: a busy machine takes three times as long as an idle one


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An instance of its own: these tests break it."""
    folder = tmp_path_factory.mktemp("recovery") / "data"
    try:
        yield up(folder)
    finally:
        down(folder)


def family(supervisor: int, wanted: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    found = []
    for process in psutil.Process(supervisor).children(recursive=True):
        try:
            if wanted(process):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def titled(title: str) -> Callable[[psutil.Process], bool]:
    return lambda process: title in " ".join(process.cmdline()) or process.name() == title


def until(holds: Callable[[], object], what: str) -> None:
    stop = time.monotonic() + PATIENCE_S
    while time.monotonic() < stop:
        try:
            if holds():
                return
        except (ClientError, psutil.Error):
            pass
        time.sleep(0.2)  # between two looks at a condition
    pytest.fail(f"{what} did not come true within {PATIENCE_S:.0f} s")


def book(pages: int) -> tuple[bytes, str]:
    word = f"Qor{uuid.uuid4().hex[:8]}"
    text = "The committee met in the usual room, approved the minutes and adjourned without further business on that day."
    return pdf([lines(f"Page {n} of the {word} protocol number {n * 7919}.", *[text] * 30) for n in range(1, pages + 1)]), word


def kill_first(running: Running, title: str) -> None:
    until(lambda: family(running.pid, titled(title)), f"{title} runs")
    family(running.pid, titled(title))[0].send_signal(signal.SIGKILL)


def answers_again(client: Client) -> bool:
    return bool(client.call("GET", "/readyz")["status"] == "ok" and client.search("committee"))


def test_a_worker_killed_in_the_middle_of_a_document_loses_and_doubles_nothing(own: Running) -> None:
    data, word = book(120)
    with own.client() as client:
        document_id = client.upload(io.BytesIO(data), filename="book.pdf")["id"]
        until(lambda: client.document(document_id)["state"] != "queued" or client.document(document_id)["progress"]["pages_done"], "work has begun")
        kill_first(own, "ray::ServeReplica:ingest:IngestWorker")
        until(lambda: client.document(document_id)["state"] == "ready", "the document is ready")
        document = client.document(document_id)
        assert (document["page_count"], document["failure"]) == (120, None)
        found = client.search(f"{word} protocol number {77 * 7919}", document_ids=[document_id], merge_neighbours=False, limit=100)["results"]
        assert len({hit["chunk_id"] for hit in found}) == len(found)
        assert any(str(77 * 7919) in hit["text"] for hit in found)


@pytest.mark.parametrize("part", ["ray::ServeReplica:docray:Gateway", "postgres", "haproxy", "raylet"])
def test_a_killed_part_comes_back_and_the_documents_are_there(own: Running, part: str) -> None:
    with own.client() as client:
        until(lambda: answers_again(client), "the instance answers")
        before = client.call("GET", "/v1/status")["documents"]
        kill_first(own, part)
        until(lambda: answers_again(client), f"it answers after {part} was killed")
        assert client.call("GET", "/v1/status")["documents"] == before
        data, key = book(1)
        # A request may still meet the part that is going down: clients send it again under the same key.
        until(lambda: client.upload(io.BytesIO(data), idempotency_key=key), "a new document is accepted")
        document_id = client.upload(io.BytesIO(data), idempotency_key=key)["id"]
        until(lambda: client.document(document_id)["state"] == "ready", "a new document is ready")


def test_up_again_changes_nothing(own: Running) -> None:
    assert up(own.data_dir) == own


def test_after_the_supervisor_itself_is_killed_up_recovers_with_the_same_key_and_data(own: Running) -> None:
    with own.client() as client:
        until(lambda: answers_again(client), "the instance answers")
        before = client.call("GET", "/v1/status")["documents"]
    os.kill(own.pid, signal.SIGKILL)
    again = up(own.data_dir)
    assert again.api_key == own.api_key
    assert again.pid != own.pid
    with again.client() as client:
        assert client.call("GET", "/v1/status")["documents"] == before
    down(own.data_dir)
    mark = f"DOCRAY_DATA_DIR={own.data_dir}"
    left = [p.pid for p in psutil.process_iter() if p.pid != os.getpid() and mark in _environment(p)]
    assert left == []
    assert docray("down", "--data-dir", own.data_dir).returncode == 0


def _environment(process: psutil.Process) -> list[str]:
    try:
        return [f"{name}={value}" for name, value in process.environ().items()]
    except (psutil.Error, OSError):
        return []
