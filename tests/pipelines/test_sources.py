"""Folders and manifests list names, sizes and labels; nothing is read before it is wanted."""

import json
from pathlib import Path

import pytest

from pipelines.sources import BadSource, fetch, files_of, name_of, sidecar_of


def made(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%PDF-" + name.encode())
    return folder


def test_a_folder_lists_its_pdfs_by_name_with_size_and_time(tmp_path: Path) -> None:
    made(tmp_path, "b.pdf", "a/c.PDF", "notes.txt", "a/d.pdf")
    found = list(files_of(str(tmp_path)))
    assert [Path(each.uri).relative_to(tmp_path).as_posix() for each in found] == ["a/c.PDF", "a/d.pdf", "b.pdf"]
    assert [each.size_bytes for each in found] == [12, 12, 10]
    assert all(each.etag for each in found)


def test_one_file_is_a_source(tmp_path: Path) -> None:
    made(tmp_path, "a.pdf", "b.pdf")
    assert [each.uri for each in files_of(str(tmp_path / "a.pdf"))] == [str(tmp_path / "a.pdf")]


def test_a_sidecar_labels_files_by_their_names(tmp_path: Path) -> None:
    made(tmp_path, "a.pdf", "b/c.pdf")
    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps({"b/c.pdf": {"title": "C", "metadata": {"year": 2020}}}))
    by_name = {Path(each.uri).name: each for each in files_of(str(tmp_path), sidecar_of(str(labels)))}
    assert (by_name["c.pdf"].title, by_name["c.pdf"].metadata) == ("C", {"year": 2020})
    assert (by_name["a.pdf"].title, by_name["a.pdf"].metadata) == (None, {})


def test_a_manifest_lists_files_once_with_labels_relative_to_itself(tmp_path: Path) -> None:
    made(tmp_path, "x/a.pdf", "b.pdf")
    lines = [{"uri": "x/a.pdf", "title": "A"}, {"uri": str(tmp_path / "b.pdf"), "metadata": {"k": [1]}}, {"uri": "b.pdf"}]
    manifest = tmp_path / "list.jsonl"
    manifest.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    first, second = files_of(str(manifest))
    assert (first.uri, first.title, first.size_bytes) == (str(tmp_path / "x/a.pdf"), "A", 12)
    assert (second.uri, second.metadata) == (str(tmp_path / "b.pdf"), {"k": [1]})


@pytest.mark.parametrize("line", ["[]", "{}", '{"uri": 3}', "not json", '{"uri": "a.pdf", "title": 3}', '{"uri": "a.pdf", "metadata": []}'])
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    made(tmp_path, "a.pdf")
    (tmp_path / "list.jsonl").write_text('{"uri": "a.pdf"}\n' + line)
    with pytest.raises(BadSource, match="line 2"):
        list(files_of(str(tmp_path / "list.jsonl")))


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadSource, match="There is no"):
        list(files_of(str(tmp_path / "missing")))
    with pytest.raises(BadSource):
        list(files_of("nowhere://bucket"))


def test_a_source_has_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert name_of("in/") == name_of(str(tmp_path / "in"))
    assert name_of("s3://bucket/in/") == "s3://bucket/in"


async def test_bytes_come_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.sources.PIECE_BYTES", 4)
    (tmp_path / "a.pdf").write_bytes(b"0123456789")
    assert [piece async for piece in fetch(str(tmp_path / "a.pdf"))] == [b"0123", b"4567", b"89"]
    with pytest.raises(FileNotFoundError):
        _ = [piece async for piece in fetch(str(tmp_path / "gone.pdf"))]
