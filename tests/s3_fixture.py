"""A real S3 server for tests: Versity's gateway over a folder, on a free port of loopback.

Found by DOCRAY_TEST_VERSITYGW, on PATH, or in `.tools/bin`, where `make test` puts it on machines that have Go.
"""

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyarrow import fs

from docray.instance.ports import any_free

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class S3Place:
    """Where a server will answer, and as whom. `environment` is what clients of S3 read."""

    port: int
    access_key: str
    secret_key: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key, "AWS_ENDPOINT_URL": self.url, "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }  # fmt: skip

    def file_system(self) -> fs.S3FileSystem:
        """The whole server, to put things there."""
        return fs.S3FileSystem(
            access_key=self.access_key, secret_key=self.secret_key, endpoint_override=self.url, region="us-east-1", allow_bucket_creation=True
        )


@pytest.fixture(scope="session")
def s3_place() -> S3Place:
    """Known before the server runs, so that processes which start earlier can be told."""
    return S3Place(any_free(1)[0], "docray-tests", secrets.token_urlsafe(24))


@pytest.fixture(scope="session")
def s3(s3_place: S3Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Place]:
    """The server, running."""
    folder = tmp_path_factory.mktemp("s3")
    environment = {"PATH": os.environ["PATH"], "ROOT_ACCESS_KEY": s3_place.access_key, "ROOT_SECRET_KEY": s3_place.secret_key}
    with (folder / "log").open("wb") as log:
        (folder / "buckets").mkdir()
        words = [_program(), "--port", f"127.0.0.1:{s3_place.port}", "posix", folder / "buckets"]
        process = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        _wait(process, s3_place.port, folder / "log")
        yield s3_place
    finally:
        process.terminate()
        process.wait(20)


def _program() -> str:
    found = os.environ.get("DOCRAY_TEST_VERSITYGW") or shutil.which("versitygw") or shutil.which("versitygw", path=ROOT / ".tools" / "bin")
    if not found:
        pytest.skip("no versitygw (an S3 server): `make test` installs it where Go is; or set DOCRAY_TEST_VERSITYGW")
    return found


def _wait(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(log.read_text()[-2000:])
