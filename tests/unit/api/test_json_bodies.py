"""What is JSON, and what is not."""

import pytest

from docray.api.json_bodies import decode_json, is_json
from docray.domain.errors import MalformedJson


@pytest.mark.parametrize(
    "raw",
    [b"{not json", b"\xff\xfe\x00", b"[" * 100_000, b'["\\u0041", ' + b"[" * 100_000, b"", b'{"a":NaN}', b'{"a":"\\u0041","b":Infinity}', b"1e999",
     b'["\\u0041", 1e999]', b"\xef\xbb\xbf{}"],
)  # fmt: skip
def test_what_is_no_json_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedJson):
        decode_json(raw)


def test_half_a_surrogate_pair_is_json_so_that_its_field_can_be_named() -> None:
    assert decode_json(b'{"title": "\\ud800"}') == {"title": "\ud800"}


@pytest.mark.parametrize(
    ("content_type", "is_one"),
    [("application/json", True), ("application/json; charset=utf-8", True), ("APPLICATION/JSON", True), ("application/merge-patch+json", True),
     ("text/plain", False), ("text/json", False), ("", False), ("application/pdf", False)],
)  # fmt: skip
def test_json_is_told_by_its_type(content_type: str, is_one: bool) -> None:
    assert is_json(content_type) is is_one
