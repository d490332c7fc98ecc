"""Names of files: no path, nothing unseen, at most 255 bytes, never empty."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docray.ingestion.filenames import clean_filename


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        ("../../etc/passwd.pdf", "passwd.pdf"),
        ("/absolute/path.pdf", "path.pdf"),
        ("C:\\folder\\file.pdf", "file.pdf"),
        ("a/b\\c.pdf", "c.pdf"),
        ("tab\tbell\x07.pdf", "tabbell.pdf"),
        ("Ünïcode näme 报告.pdf", "Ünïcode näme 报告.pdf"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        (None, "document.pdf"),
        ("", "document.pdf"),
        ("  ", "document.pdf"),
        ("..", "document.pdf"),
        ("folder/", "document.pdf"),
        ("no extension", "no extension"),
    ],
)
def test_a_name_is_kept_without_path_and_control_characters(given_name: str | None, kept: str) -> None:
    assert clean_filename(given_name) == kept


@pytest.mark.parametrize("letter", ["x", "é", "报", "\U0001f600"])
def test_a_long_name_is_cut_on_a_code_point_and_keeps_its_extension(letter: str) -> None:
    kept = clean_filename(letter * 300 + ".pdf")
    assert kept.endswith(letter + ".pdf")
    assert 255 - len(letter.encode()) < len(kept.encode()) <= 255


def test_a_long_name_without_extension_is_cut_at_its_end() -> None:
    assert clean_filename("x" * 300) == "x" * 255
    assert clean_filename("a." + "x" * 300) == "a." + "x" * 253


@given(st.text(max_size=400))
def test_every_name_becomes_one_that_can_be_stored(name: str) -> None:
    kept = clean_filename(name)
    assert 1 <= len(kept.encode()) <= 255
    assert not set(kept) & set("/\\\x00\x1f\x7f\n")
    assert clean_filename(kept) == kept
