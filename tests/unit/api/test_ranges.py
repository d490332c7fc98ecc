"""Byte ranges as RFC 9110 has them."""

import pytest

from docray.api.ranges import wanted
from docray.domain.errors import RangeNotSatisfiable


@pytest.mark.parametrize(
    ("header", "bytes_wanted"),
    [
        ("bytes=0-99", (0, 99)),
        ("bytes=100-", (100, 999)),
        ("bytes=-50", (950, 999)),
        ("bytes=-5000", (0, 999)),
        ("bytes=10-2000", (10, 999)),
        ("bytes=999-999", (999, 999)),
        ("Bytes = 0 - 0", (0, 0)),
        (f"bytes=0-{'9' * 5000}", (0, 999)),
        (None, None),
        ("", None),
        ("bytes=-", None),
        ("bytes=5-2", None),
        ("bytes=a-b", None),
        ("lines=0-5", None),
        ("bytes=0-1,5-6", None),
    ],
)
def test_a_single_range_is_understood_and_anything_else_means_the_whole_file(header: str | None, bytes_wanted: tuple[int, int] | None) -> None:
    assert wanted(header, 1000) == bytes_wanted


@pytest.mark.parametrize("header", ["bytes=1000-", "bytes=1005-1010", "bytes=-0", f"bytes={'9' * 5000}-"])
def test_a_range_beyond_the_end_cannot_be_satisfied(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable):
        wanted(header, 1000)
