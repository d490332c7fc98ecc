"""Bulk runs as people start them, on a real Ray: every file ends, once, whatever dies on the way."""

import json
import shutil
import time
from collections import Counter
from pathlib import Path

import asyncpg
import pytest
from bulk_checks import all_is_well, filled, states
from pdf_factory import scan
from site_fixture import Command, Site, kill

from docray.domain.bulk import RunState
from docray.domain.catalog import DocumentQuery, Paging
from docray.domain.principals import Principal
from docray.instance import postgres
from pipelines.ingest import main

SAMPLES = Path(__file__).resolve().parents[2] / "samples"


async def test_every_file_ends_with_its_code_and_the_same_command_does_nothing_twice(
    site: Site, ingest: Command, catalog, principal: Principal, tmp_path: Path,
) -> None:  # type: ignore[no-untyped-def]  # fmt: skip
    source = tmp_path / "in"
    shutil.copytree(SAMPLES, source, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (source / "below").mkdir()
    (source / "below" / "twin.pdf").write_bytes((SAMPLES / "lighthouse-handbook.pdf").read_bytes())
    (source / "scan.pdf").write_bytes(scan())
    (source / "page.pdf").write_bytes(b"<html>no PDF</html>")
    (source / "broken.pdf").write_bytes(b"%PDF-1.7\nnothing that follows makes sense")
    (source / "notes.txt").write_text("not looked at")
    (tmp_path / "labels.json").write_text(json.dumps({"harbour-council-minutes.pdf": {"title": "The minutes", "metadata": {"year": 2021}}}))
    told = ingest.run(source, "--collection", "Island", "--metadata-from", tmp_path / "labels.json", "--report", tmp_path / "report.html")
    assert (told["state"], told["files"], told["ready"], told["failed"], told["duplicate"]) == ("done", 7, 3, 3, 1)
    assert Counter(each["code"] for each in told["failures"]) == told["failures_by_code"] == {"no_text": 1, "not_a_pdf": 1, "damaged": 1}
    assert all(each["message"] for each in told["failures"])
    assert told["pages"] == 5
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "not_a_pdf" in report
    assert "<svg" in report or "Too short" in report
    async with catalog.transaction(principal) as tx:
        [island] = (await tx.collections.list(Paging())).items
        documents = (await tx.documents.list(DocumentQuery(collection_id=island.id), Paging())).items
    assert {document.filename for document in documents} >= {"ferry-annual-report-2023.pdf", "harbour-council-minutes.pdf"}
    [minutes] = [document for document in documents if document.title == "The minutes"]
    assert minutes.metadata == {"year": 2021}
    assert await all_is_well(site, principal) == []
    before = await states(catalog, principal)
    again = ingest.run(source, "--collection", "Island")
    assert (again["files"], again["known"], again["ready"], again["chunks"]) == (7, 7, 0, 0)
    assert await states(catalog, principal) == before


async def test_a_killed_run_resumed_ends_as_an_unkilled_one(
    site: Site, ingest: Command, catalog, principal: Principal, tmp_path: Path,
) -> None:  # type: ignore[no-untyped-def]  # fmt: skip
    source = filled(tmp_path / "in", 24, pages=3)
    process = ingest.start(source)
    deadline = time.monotonic() + 120
    while (await states(catalog, principal)).get("ready", 0) < 3:
        assert process.poll() is None, "it was through before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.2)
    kill(process)
    async with catalog.transaction(principal) as tx:
        [interrupted] = (await tx.bulk_runs.list(Paging())).items
    assert interrupted.state in (RunState.RUNNING, RunState.INTERRUPTED)
    connection = await asyncpg.connect(site.dsn(postgres.SUPERUSER))
    await connection.execute("UPDATE docray.bulk_runs SET lease_until = now() WHERE id = $1", interrupted.id)  # the minute that a driver has passes
    await connection.close()
    told = ingest.run(source, "--resume")
    assert told["job_id"] == str(interrupted.id)
    assert (told["state"], told["files"], told["ready"], told["failed"], told["pages"]) == ("done", 24, 24, 0, 72)
    assert await all_is_well(site, principal) == []


async def test_nodes_come_and_go_while_it_runs(site: Site, ingest: Command, catalog, principal: Principal, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    source = filled(tmp_path / "in", 30, pages=3)
    node = site.ray.add_node(2)
    process = ingest.start(source, "--extract-actors", 3)
    deadline = time.monotonic() + 120
    while (await states(catalog, principal)).get("ready", 0) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    site.ray.kill_node(node)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-4000:]
    told = json.loads(out)
    assert (told["state"], told["files"], told["failed"]) == ("done", 30, 0)
    assert told["ready"] == 30
    assert await all_is_well(site, principal) == []


async def test_two_drivers_of_one_source_do_not_meet(site: Site, ingest: Command, catalog, principal: Principal, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    source = filled(tmp_path / "in", 6)
    first = ingest.start(source)
    deadline = time.monotonic() + 60
    while True:
        async with catalog.transaction(principal) as tx:
            if (await tx.bulk_runs.list(Paging())).items:
                break
        assert time.monotonic() < deadline
        time.sleep(0.1)
    refused = ingest.run(source, expect=2)
    assert "Another driver" in refused["message"]
    out, err = first.communicate(timeout=300)
    assert first.returncode == 0, err[-4000:]
    assert json.loads(out)["ready"] == 6
    assert await all_is_well(site, principal) == []


async def test_too_many_failures_end_the_run_and_not_the_documents(
    site: Site, ingest: Command, catalog, principal: Principal, tmp_path: Path,
) -> None:  # type: ignore[no-untyped-def]  # fmt: skip
    source = filled(tmp_path / "in", 2)
    for number in range(4):
        (source / f"a-scan-{number}.pdf").write_bytes(scan(number + 1))
    told = ingest.run(source, "--max-failures", 1, expect=1)
    assert (told["state"], told["error"]["code"]) == ("failed", "too_many_failures")
    mended = ingest.run(source)
    assert (mended["state"], mended["files"], mended["failures_by_code"]) == ("done", 6, {"no_text": 4})
    assert await states(catalog, principal) == {"ready": 2, "failed": 4}


async def test_a_run_is_stopped_in_the_middle_and_what_it_dropped_is_taken_up(
    site: Site, ingest: Command, catalog, principal: Principal, tmp_path: Path,
) -> None:  # type: ignore[no-untyped-def]  # fmt: skip
    source = filled(tmp_path / "in", 60, pages=8)
    for number in range(3):
        (source / f"a-scan-{number}.pdf").write_bytes(scan(number + 1))
    told = ingest.run(source, "--max-failures", 1, expect=1)
    assert (told["state"], told["error"]["code"]) == ("failed", "too_many_failures")
    assert told["ready"] < 60, "it was through before it could be stopped"
    mended = ingest.run(source)
    assert (mended["state"], mended["job_id"]) == ("done", told["job_id"])
    assert await states(catalog, principal) == {"ready": 60, "failed": 3}
    assert await all_is_well(site, principal) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("{missing}",), "There is no"), (("{empty}",), "no PDF"), (("{full}", "--resume"), "no unfinished run"),
        (("{full}", "--collection", "00000000-0000-7000-8000-000000000000"), "no collection"), (("{full}", "--tenant", "nobody"), "no tenant"),
        (("{manifest}",), "line 2"), (("{full}", "--metadata-from", "{manifest}"), "cannot be read as JSON"),
    ],
)  # fmt: skip
def test_what_cannot_start_says_why_and_leaves_nothing(
    site: Site, principal: Principal, tmp_path: Path, words: tuple[str, ...], says: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.jsonl").write_text('{"uri": "report-000.pdf"}\n{"url": "report-001.pdf"}\n')
    places = {
        "missing": tmp_path / "missing", "empty": tmp_path / "empty", "full": filled(tmp_path / "full", 1), "manifest": tmp_path / "list.jsonl",
    }  # fmt: skip
    source, *more = [word.format(**places) for word in words]
    for name, value in site.environment.items():
        if name.startswith("DOCRAY_"):
            monkeypatch.setenv(name, value)
    tenant = [] if "--tenant" in more else ["--tenant", principal.tenant_name]
    assert main(["--source", source, *tenant, *more]) == 2
    assert says in capsys.readouterr().err
