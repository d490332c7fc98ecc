"""A bucket as a source, on a real S3 server: the same listing, labels and bytes as a folder's, whatever its objects are called."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from bulk_checks import a_pdf, all_is_well, states
from s3_fixture import S3Place
from site_fixture import Command, Site

from docray.domain.principals import Principal
from pipelines import sources
from pipelines.sources import BadSource, fetch, files_of

ODD = ("plain.pdf", "below/ü & 100% sure?.pdf", "below/a%20b.PDF", "below/日本語 #1.pdf")
Put = Callable[..., str]


@pytest.fixture
def put(s3: S3Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Put:
    """Puts objects in a bucket of the test's own; the source's URI."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    sources._system.cache_clear()
    system = s3.file_system()
    bucket = f"bucket-{tmp_path.parent.name.rpartition('-')[2]}-{abs(hash(tmp_path)) % 10**9}"
    system.create_dir(bucket)

    def put(objects: dict[str, bytes]) -> str:
        for name, data in objects.items():
            with system.open_output_stream(f"{bucket}/in/{name}") as stream:
                stream.write(data)
        return f"s3://{bucket}/in"

    return put


async def read(uri: str) -> bytes:
    return b"".join([piece async for piece in fetch(uri)])


def test_objects_are_listed_and_read_whatever_they_are_called(put: Put) -> None:
    source = put({name: f"%PDF-{name}".encode() for name in (*ODD, "notes.txt")})
    found = list(files_of(source, {"below/a%20b.PDF": {"title": "B"}}))
    assert [each.uri for each in found] == sorted(f"{source}/{name}" for name in ODD)
    assert [each.title for each in found if each.title] == ["B"]
    for each in found:
        data = asyncio.run(read(each.uri))
        assert data.decode() == f"%PDF-{each.uri.removeprefix(source + '/')}"
        assert each.size_bytes == len(data)


def test_a_manifest_in_the_bucket_names_its_neighbours(put: Put) -> None:
    entries = [{"uri": name, "metadata": {"n": number}} for number, name in enumerate(ODD)]
    source = put(dict.fromkeys(ODD, b"%PDF") | {"list.jsonl": "\n".join(map(json.dumps, entries)).encode()})
    found = list(files_of(f"{source}/list.jsonl"))
    assert [each.uri for each in found] == [f"{source}/{name}" for name in ODD]
    assert [each.metadata["n"] for each in found] == [0, 1, 2, 3]


@pytest.mark.parametrize("below", ["/in/nothing-here", "-absent/in"])
def test_what_is_not_there_is_said(put: Put, below: str) -> None:
    bucket = put({"a.pdf": b"%PDF"}).removesuffix("/in")
    with pytest.raises(BadSource, match="There is no"):
        list(files_of(bucket + below))


def test_a_wrong_secret_is_said_and_not_shown(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    source = put({"a.pdf": b"%PDF"})
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    sources._system.cache_clear()
    with pytest.raises(BadSource, match="cannot be listed") as caught:
        list(files_of(source))
    assert "not-the-secret" not in str(caught.value)


async def test_a_run_reads_a_bucket_and_the_same_command_does_nothing_twice(
    put: Put, site: Site, ingest: Command, catalog, principal: Principal,
) -> None:  # type: ignore[no-untyped-def]  # fmt: skip
    source = put({name: a_pdf(number) for number, name in enumerate(ODD)})
    told = ingest.run(source)
    assert (told["state"], told["files"], told["ready"], told["failed"]) == ("done", 4, 4, 0)
    assert await states(catalog, principal) == {"ready": 4}
    assert ingest.run(source)["known"] == 4
    assert await all_is_well(site, principal) == []
