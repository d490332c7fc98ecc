"""What a hostile child may send: nothing but a valid page is taken for one."""

import copy
import json
import platform
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docray.domain.documents import Block, BlockKind, Page, Word
from docray.ingestion.sandbox import wire
from docray.ingestion.sandbox.bpf import When, programme
from docray.ingestion.sandbox.syscalls import allowlist

PAGE = Page(
    number=3,
    width=612.0,
    height=792.0,
    rotation=90,
    words=(
        Word("Net", (10.0, 20.0, 30.25, 32.0), 0),
        Word("in-", (33.0, 20.0, 50.0, 32.0), 0, "", True),
        Word("come", (10.0, 34.0, 40.0, 46.0), 1, "\n\n"),
        Word("他", (10.0, 60.0, 20.0, 72.0), 2, ""),
        Word("10", (30.0, 60.0, 40.0, 72.0), 2, "\n"),
        Word("20", (30.0, 75.0, 40.0, 87.0), 3, "\n\n"),
    ),
    blocks=(Block(BlockKind.HEADING, 0, 3, 2), Block(BlockKind.TABLE, 3, 6, 0, ((3, 5), (5, 6)))),
)
VALUE: dict[str, Any] = json.loads(wire.pack_page(PAGE))


def test_a_page_comes_back_as_it_was_sent() -> None:
    assert wire.unpack_page(wire.pack_page(PAGE)) == PAGE


@pytest.mark.parametrize(
    ("column", "at", "value"),
    [
        ("texts", 0, ""),
        ("texts", 0, "two words"),
        ("texts", 0, "nul\0"),
        ("texts", 0, "\ud800"),
        ("texts", 0, 7),
        ("boxes", 0, None),
        ("boxes", 0, True),
        ("boxes", 0, float("inf")),
        ("boxes", 0, float("nan")),
        ("lines", 0, -1),
        ("lines", 0, 1.5),
        ("lines", 0, 1 << 40),
        ("after", 0, 4),
        ("after", 0, -1),
        ("hyphens", 0, "1"),
        ("size", 0, "612"),
        ("blocks", 0, [0, 0, 2, 2, []]),
        ("blocks", 0, [0, 0, 4, 2, []]),
        ("blocks", 0, [9, 0, 3, 2, []]),
        ("blocks", 1, [3, 3, 6, 0, [[3, 4], [5, 6]]]),
        ("blocks", 1, [3, 3, 6]),
    ],
)
def test_a_page_that_is_wrong_in_one_place_is_refused(column: str, at: int, value: object) -> None:
    broken = copy.deepcopy(VALUE)
    broken[column][at] = value

    with pytest.raises(wire.WireError):
        wire.unpack_page(json.dumps(broken).encode())


@pytest.mark.parametrize("column", sorted(VALUE))
def test_a_page_without_a_column_or_with_a_shorter_one_is_refused(column: str) -> None:
    without = {name: value for name, value in VALUE.items() if name != column}
    with pytest.raises(wire.WireError):
        wire.unpack_page(json.dumps(without).encode())
    if column in ("texts", "boxes", "lines", "after", "size", "blocks"):
        with pytest.raises(wire.WireError):
            wire.unpack_page(json.dumps(VALUE | {column: VALUE[column][:-1]}).encode())


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(body: bytes) -> None:
    try:
        assert isinstance(wire.unpack(body), dict)
    except wire.WireError:
        return


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(wire.WireError):
        wire.unpack(b'{"a":' + b"[" * 200_000)


def answer(code: bytes, architecture: int, number: int, *arguments: int) -> int:
    """What the kernel would return: a small interpreter of the instructions in use."""
    padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("=iIQ6Q", number, architecture, 0, *padded)
    accumulator, at = 0, 0
    while True:
        operation, if_true, if_false, operand = struct.unpack_from("=HBBI", code, 8 * at)
        at += 1
        if operation == 0x20:
            accumulator = struct.unpack_from("=I", data, operand)[0]
        elif operation == 0x54:
            accumulator &= operand
        elif operation == 0x15:
            at += if_true if accumulator == operand else if_false
        elif operation == 0x35:
            at += if_true if accumulator >= operand else if_false
        else:
            return int(operand)


ALLOW, KILL, EPERM, ENOSYS = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026


def test_the_filter_allows_what_is_listed_and_refuses_the_rest() -> None:
    code = programme(7, {1: None, 2: When(0, (5, 6)), 3: When(1, (0,), 0x4)}, (9,))

    assert answer(code, 7, 1) == ALLOW
    assert [answer(code, 7, 2, value) for value in (5, 6, 7)] == [ALLOW, ALLOW, EPERM]
    assert [answer(code, 7, 3, 4, protection) for protection in (0, 3, 4, 7)] == [ALLOW, ALLOW, EPERM, EPERM]
    assert answer(code, 7, 4) == EPERM
    assert answer(code, 7, 9) == ENOSYS
    assert answer(code, 8, 1) == KILL
    assert answer(code, 7, 1 | 0x40000000) == KILL


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_list_lets_threads_be_made_and_no_processes(machine: str) -> None:
    found = allowlist(machine, pid=42)
    assert found is not None
    code = programme(found.architecture, found.allowed, found.unknown)
    clone, kill, tgkill, openat, socket = {"x86_64": (56, 62, 234, 257, 41), "aarch64": (220, 129, 131, 56, 198)}[machine]

    assert answer(code, found.architecture, clone, 0x10F00) == ALLOW
    assert answer(code, found.architecture, clone, 0x11) == EPERM
    assert answer(code, found.architecture, tgkill, 42) == ALLOW
    assert answer(code, found.architecture, tgkill, 1) == EPERM
    for number in (kill, openat, socket):
        assert answer(code, found.architecture, number) == EPERM


def test_the_client_loads_no_engine_into_its_process() -> None:
    code = "import sys, docray.ingestion.sandbox.client; sys.exit(any(name in sys.modules for name in ('pymupdf', 'pypdfium2', 'liteparse')))"

    assert subprocess.run([sys.executable, "-c", code], cwd=Path(wire.__file__).parents[3], check=False).returncode == 0


def test_a_processor_without_a_list_is_told_apart() -> None:
    assert allowlist("riscv64", pid=1) is None
    assert allowlist(platform.machine(), pid=1) is not None
