"""The wrapper's edits, on the very configuration that the installed Ray Serve writes, judged by the real HAProxy."""

import http.client
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions

from docray.instance import ray_head
from docray.instance.ports import any_free

WRAPPER = Path(ray_head.__file__).with_name("haproxy.sh")


@pytest.fixture
def config(tmp_path: Path) -> tuple[Path, int]:
    """Serve's configuration for one replica that is not there, and the port of its frontend."""
    port, metrics, stats, replica, fallback = any_free(5)
    server = ServerConfig(name="replica", host="127.0.0.1", port=replica)
    api = HAProxyApi(
        cfg=HAProxyConfig(
            http_options=HTTPOptions(host="127.0.0.1", port=port), is_head=True, metrics_port=metrics, stats_port=stats,
            socket_path=str(tmp_path / "a.sock"), metrics_socket_path=str(tmp_path / "m.sock"),
            server_state_base=str(tmp_path), server_state_file=str(tmp_path / "state"),
        ),
        config_file_path=str(tmp_path / "haproxy.cfg"),
        backend_configs={
            "docray": BackendConfig(
                name="docray", path_prefix="/", app_name="docray", servers=[server],
                fallback_server=ServerConfig(name="fallback", host="127.0.0.1", port=fallback),
            )
        },
    )  # fmt: skip
    api._generate_config_file_internal()
    (tmp_path / "state").touch()
    return tmp_path / "haproxy.cfg", port


@pytest.fixture
def running(config: tuple[Path, int]) -> Iterator[tuple[Path, int]]:
    """HAProxy, started as Serve starts it."""
    path, port = config
    environment = {**os.environ, "DOCRAY_HAPROXY": str(ray_head.haproxy_binary())}
    process = subprocess.Popen([WRAPPER, "-db", "-f", path], env=environment, stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(100):
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=2):
                    break
            except OSError:
                assert process.poll() is None, process.stderr.read() if process.stderr else ""
                time.sleep(0.05)  # until it listens, at most 5 s
        yield path, port
    finally:
        process.terminate()
        process.communicate(timeout=10)


def test_every_listener_is_on_loopback(running: tuple[Path, int]) -> None:
    addresses = re.findall(r"^\s*bind (\S+)", running[0].read_text(encoding="utf-8"), re.M)
    assert len(addresses) == 3
    assert all(address.startswith("127.0.0.1:") for address in addresses)


def test_no_plain_text_fallback_is_left(running: tuple[Path, int]) -> None:
    text = running[0].read_text(encoding="utf-8")
    assert "backup" not in text
    assert "errorfile" not in text
    assert 'lf-string "Path' not in text


def test_a_second_pass_over_the_same_file_changes_nothing(running: tuple[Path, int]) -> None:
    before = running[0].read_text(encoding="utf-8")
    subprocess.run(
        [WRAPPER, "-c", "-f", running[0]], env={**os.environ, "DOCRAY_HAPROXY": str(ray_head.haproxy_binary())}, check=True, capture_output=True
    )
    assert running[0].read_text(encoding="utf-8") == before


def test_without_a_replica_the_answer_is_503_in_the_error_shape(running: tuple[Path, int]) -> None:
    with socket.create_connection(("127.0.0.1", running[1]), timeout=15) as connection:
        connection.sendall(b"GET /v1/documents HTTP/1.1\r\nHost: x\r\n\r\n")
        with http.client.HTTPResponse(connection) as answer:
            answer.begin()
            body = json.loads(answer.read())
    assert answer.status == 503
    assert body["error"]["type"] == "unavailable"
    assert set(body["error"]) == {"type", "code", "message", "param", "request_id", "retryable"}
    assert body["error"]["request_id"] == answer.headers["X-Request-Id"] != ""
    assert answer.headers["Retry-After"] == "1"
