"""`docray ingest --bulk` as people use it: on this machine beside the instance, and as a job of a Ray cluster."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Running, docray
from pdf_factory import scan

from docray.client import Client

SAMPLES = ROOT / "samples"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two reports and a scan."""
    folder = tmp_path / "in"
    folder.mkdir()
    for sample in sorted(SAMPLES.glob("*.pdf"))[:2]:
        shutil.copy(sample, folder)
    (folder / "scan.pdf").write_bytes(scan(7))
    return folder


def lines(done: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.timeout(600)
def test_a_folder_in_bulk_and_once_more_on_a_cluster(instance: Running, client: Client, source: Path) -> None:
    words = ("ingest", source, "--bulk", "--collection", "In bulk", "--data-dir", instance.data_dir, "--json")
    done = docray(*words, check=False)
    assert done.returncode == 5, done.stderr
    *progress, last = lines(done)
    assert {event["event"] for event in progress} == {"progress"}
    job = last["job"]
    assert (last["event"], last["ready"] + job["files"]["duplicate"], last["failed"], job["state"]) == ("done", 2, 1, "done")
    found = client.call("POST", "/v1/search", json={"query": "night crossing of the ferry"})
    assert found["results"]
    ray = {"DOCRAY_RAY_DASHBOARD_URL": json.loads((instance.data_dir / "instance.json").read_text())["dashboard_url"]}
    token = (instance.data_dir / "secrets" / "ray_token").read_text()
    again = docray(*words, DOCRAY_RAY_TOKEN=token, **ray)
    assert lines(again)[-1]["job"]["files"] == {"total": 3, "ended": 3, "ready": 0, "failed": 0, "duplicate": 0, "known": 3}
    (source / "empty").mkdir()
    empty = docray("ingest", source / "empty", "--bulk", "--data-dir", instance.data_dir, DOCRAY_RAY_TOKEN=token, check=False, **ray)
    assert empty.returncode != 0
    assert "There is no PDF in" in empty.stderr
    refused = docray(*words, DOCRAY_RAY_TOKEN="another", check=False, **ray)
    assert refused.returncode == 1
    assert "Ray at" in refused.stderr
    assert docray("status", "--data-dir", instance.data_dir, "--json").stdout.count('"jobs": []') == 1


def test_what_cannot_start_says_so(instance: Running, tmp_path: Path) -> None:
    absent = docray("ingest", tmp_path / "absent", "--bulk", "--data-dir", instance.data_dir, check=False)
    assert (absent.returncode, "No such file or folder" in absent.stderr) == (2, True)
    two = docray("ingest", tmp_path, tmp_path, "--bulk", "--data-dir", instance.data_dir, check=False)
    assert (two.returncode, "one source" in two.stderr) == (2, True)
    empty = docray("ingest", tmp_path, "--bulk", "--data-dir", instance.data_dir, check=False)
    assert (empty.returncode, "There is no PDF in" in empty.stderr) == (2, True)
