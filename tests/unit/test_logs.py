"""Log lines: JSON, with ids; nothing private and no secret in them, not even within an exception."""

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from docray.domain.errors import Unavailable
from docray.observability import logs
from docray.observability.health import Readiness
from docray.security.api_keys import make_key

SECRET = make_key("k", []).secret


class Written:
    """Where a test's lines go."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()

    def configure(self, level: str) -> None:
        logs.configure(level, self._buffer)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._buffer.getvalue().splitlines()]


@pytest.fixture
def written() -> Iterator[Written]:
    yield Written()
    structlog.reset_defaults()


def test_a_line_has_a_sentence_a_level_a_time_and_its_fields(written: Written) -> None:
    written.configure("INFO")
    with structlog.contextvars.bound_contextvars(request_id="r-1"):
        structlog.get_logger().info("a document is ready", action="published", document_id="d")
    structlog.get_logger().debug("too much")
    [line] = written.lines()
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "a document is ready", "level": "info", "action": "published", "document_id": "d", "request_id": "r-1"}


@pytest.mark.parametrize(
    "fields",
    [
        {"question": "private"}, {"query": "private"}, {"text": "private"}, {"metadata": {"a": "private"}}, {"filename": "private.pdf"},
        {"note": f"key {SECRET}"}, {"note": f"Authorization: Bearer {SECRET}"}, {"note": "postgresql://app:private@host/db"},
        {"note": "sk-private-0123456789"},
    ],
)  # fmt: skip
def test_what_is_private_is_replaced(written: Written, fields: dict[str, Any]) -> None:
    written.configure("INFO")
    structlog.get_logger().info("something happened", **fields)
    [line] = written.lines()
    told = json.dumps(line)
    assert "[redacted]" in told
    assert "private" not in told
    assert SECRET not in told


@pytest.mark.parametrize(("level", "told"), [("INFO", False), ("DEBUG", True)])
def test_an_exception_shows_kind_and_place_and_its_message_only_when_debugging(written: Written, level: str, told: bool) -> None:
    written.configure(level)
    try:
        try:
            int("words of a document")
        except ValueError as error:
            raise Unavailable from error
    except Unavailable as error:
        structlog.get_logger().warning("it broke", action="broke", exc_info=error)
    [line] = written.lines()
    assert [one["kind"] for one in line["exception"]] == ["docray.domain.errors.Unavailable", "builtins.ValueError"]
    assert line["exception"][0]["frames"][0].startswith("test_an_exception_shows_kind")
    assert ("words of a document" in json.dumps(line)) is told


class Check:
    critical = True

    def __init__(self, name: str) -> None:
        self.name, self.asked = name, 0

    async def check(self) -> dict[str, Any]:
        self.asked += 1
        return {"ok": True, "latency_ms": 1.0, "detail": None}


async def test_readiness_asks_at_most_once_a_second() -> None:
    check = Check("database")
    readiness = Readiness([check])
    assert [(await readiness.check()).status for _ in range(20)] == ["ok"] * 20
    assert check.asked == 1
