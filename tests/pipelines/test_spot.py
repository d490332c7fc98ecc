"""A cloud takes spot nodes back: the notice is seen, the node drained, and the run goes on where it may."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from site_fixture import ROOT, Command, Site
from test_bulk_ingest import all_is_well, filled, states

from docray.domain.principals import Principal

pytestmark = pytest.mark.timeout(420)


class Metadata(ThreadingHTTPServer):
    """Instance metadata, version 2, as AWS documents it: a token first, and 404 until the node is taken back."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.taken_back = threading.Event()
        self.asked_without_token = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answers(BaseHTTPRequestHandler):
    server: Metadata

    def do_PUT(self) -> None:
        self._say(200, b"a token")

    def do_GET(self) -> None:
        if self.headers.get("X-aws-ec2-metadata-token") != "a token":
            self.server.asked_without_token += 1
            self._say(401)
        elif self.path == "/latest/meta-data/spot/instance-action" and self.server.taken_back.is_set():
            self._say(200, b'{"action": "terminate", "time": "2026-11-27T09:00:00Z"}')
        else:
            self._say(404)

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def _say(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    server = Metadata()
    yield server
    server.shutdown()
    server.server_close()


def watching(site: Site, node: int, metadata: Metadata) -> "subprocess.Popen[str]":
    """The script, as on that node."""
    return subprocess.Popen(
        [ROOT / "cluster" / "spot_notice.sh"], stderr=subprocess.PIPE, text=True,
        env=site.environment | {
            "DOCRAY_METADATA_URL": metadata.url, "DOCRAY_METADATA_EVERY_S": "0.3", "DOCRAY_NODE_ID": site.ray.node_ids[node],
            "DOCRAY_RAY_COMMAND": os.fspath(Path(sys.executable).with_name("ray")),
        },
    )  # fmt: skip


async def test_a_node_taken_back_is_drained_and_another_takes_over(
    site: Site, ingest: Command, catalog, principal: Principal, tmp_path: Path, metadata: Metadata,
) -> None:  # type: ignore[no-untyped-def]  # fmt: skip
    source = filled(tmp_path / "in", 40, pages=3)
    spot = site.ray.add_node(2, "extract")
    watcher = watching(site, spot, metadata)
    process = ingest.start(source, "--extract-on", "extract", "--extract-actors", 2)
    deadline = time.monotonic() + 180
    while (await states(catalog, principal)).get("ready", 0) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert watcher.poll() is None, "it saw a notice that nobody gave"
    metadata.taken_back.set()
    _, said = watcher.communicate(timeout=60)
    assert watcher.returncode == 0, said
    other = site.ray.add_node(2, "extract")
    time.sleep(2)
    site.ray.kill_node(spot)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-4000:]
    told = json.loads(out)
    assert (told["state"], told["ready"], told["failed"]) == ("done", 40, 0)
    assert await all_is_well(site, principal) == []
    assert metadata.asked_without_token == 0
    site.ray.kill_node(other)
