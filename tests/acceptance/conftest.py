"""One docray for the folder: started as people start it, as processes, talked to over HTTP and the command line only."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from docray.client import Client
from docray.instance.ports import any_free

ROOT = Path(__file__).resolve().parents[2]
DOCRAY = Path(sys.executable).with_name("docray")


@dataclass(frozen=True)
class Running:
    """An instance that is up."""

    data_dir: Path
    url: str
    api_key: str
    pid: int

    def client(self, api_key: str | None = None) -> Client:
        return Client(self.url, api_key or self.api_key)


def environment(**more: str) -> dict[str, str]:
    """Ours without what would steer the product."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("DOCRAY_", "RAY_", "PYTHONPATH"))} | more


def docray(*words: object, check: bool = True, timeout_s: float = 400, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs the command line against no instance of the environment."""
    done = subprocess.run(
        [DOCRAY, *map(str, words)],
        cwd=ROOT,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def up(data_dir: Path, port: int | None = None, **more: str) -> Running:
    """Starts an instance and reads what it says of itself."""
    told: dict[str, Any] = json.loads(docray("up", "--data-dir", data_dir, *(["--port", port] if port else []), "--json", **more).stdout)
    return Running(data_dir=data_dir, url=told["url"], api_key=told["api_key"], pid=told["pid"])


def down(data_dir: Path) -> None:
    docray("down", "--data-dir", data_dir)


@pytest.fixture(scope="session")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("instance") / "data"
    try:
        yield up(folder, any_free(1)[0], PATH=os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]))  # jobs of Ray run `python`
    finally:
        down(folder)


@pytest.fixture
def client(instance: Running) -> Iterator[Client]:
    with instance.client() as opened:
        yield opened
