"""Readiness from the health of each dependency. Anybody may ask, so an answer is kept for a second and a slow check is cut off."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from docray.domain.ports import HealthCheck

_KEPT_S = 1.0
_CHECK_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class Health:
    """`unavailable` when a critical check fails, `degraded` when another one does. `checks`: name → {"ok", "latency_ms", "detail"}."""

    status: Literal["ok", "degraded", "unavailable"]
    checks: Mapping[str, Mapping[str, Any]]


class Readiness:
    """Runs the checks together, at most once a second however many ask."""

    def __init__(self, checks: Sequence[HealthCheck]) -> None:
        self._checks = checks
        self._last: tuple[float, Health] | None = None
        self._lock = asyncio.Lock()

    async def check(self) -> Health:
        """The state now, or that of less than a second ago."""
        async with self._lock:
            if self._last is None or time.monotonic() - self._last[0] > _KEPT_S:
                results = await asyncio.gather(*(_run(check) for check in self._checks))
                self._last = (time.monotonic(), _judge(self._checks, results))
            return self._last[1]


async def _run(check: HealthCheck) -> Mapping[str, Any]:
    started = time.monotonic()
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT_S):
            found = await check.check()
        return {"ok": bool(found["ok"]), "latency_ms": found.get("latency_ms"), "detail": found.get("detail")}
    except TimeoutError:
        return {"ok": False, "latency_ms": round((time.monotonic() - started) * 1000, 1), "detail": "does not answer"}


def _judge(checks: Sequence[HealthCheck], results: Sequence[Mapping[str, Any]]) -> Health:
    failed = [check for check, result in zip(checks, results, strict=True) if not result["ok"]]
    status: Literal["ok", "degraded", "unavailable"] = "ok"
    if failed:
        status = "unavailable" if any(check.critical for check in failed) else "degraded"
    return Health(status, {check.name: result for check, result in zip(checks, results, strict=True)})
