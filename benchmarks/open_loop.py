"""Load at a fixed rate, and the highest rate that a server bears. Loopback only, bounded in time.

A request's time counts from when it was due, not from when a connection was free for it: a server that falls behind cannot slow its load down.
"""

import asyncio
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from benchmarks.instance import Instance

CONNECTIONS = 64
STEP_S = 5.0
P95_MS, ERROR_SHARE = 200.0, 0.001
_GROWTH, _HALVINGS = 1.6, 3
_PATIENCE_S = 2.0
Requests = Callable[[], Iterator[bytes]]


@dataclass(frozen=True)
class Step:
    """What some seconds at a rate came to. What was due and not answered in time counts as an error."""

    rate: float
    p50_ms: float
    p95_ms: float
    error_share: float

    @property
    def borne(self) -> bool:
        """Whether that is good enough."""
        return self.p95_ms < P95_MS and self.error_share < ERROR_SHARE


async def at_rate(instance: Instance, requests: Iterator[bytes], rate: float, seconds: float = STEP_S) -> Step:
    """Sends so many requests a second."""
    parts = urlsplit(instance.url)
    if parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise SystemExit("benchmarks send load to this machine only")
    due, times, good = itertools.count(), [], 0
    count = max(1, round(rate * seconds))
    started = time.perf_counter() + 0.05
    give_up = started + seconds + _PATIENCE_S

    async def one() -> None:
        nonlocal good
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            while (number := next(due)) < count and time.perf_counter() < give_up:
                at = started + number / rate
                await asyncio.sleep(max(0.0, at - time.perf_counter()))
                writer.write(next(requests))
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0] or 0))
                times.append(time.perf_counter() - at)
                good += head.startswith(b"HTTP/1.1 200")
        except (OSError, asyncio.IncompleteReadError):
            pass  # its request is not among the good ones
        finally:
            writer.close()

    tasks = [asyncio.create_task(one()) for _ in range(min(CONNECTIONS, count))]
    _, late = await asyncio.wait(tasks, timeout=seconds + 2 * _PATIENCE_S)
    for task in late:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    ordered = sorted(times) + [math.inf] * (count - len(times))
    return Step(
        rate=round(rate, 1), p50_ms=round(1000 * ordered[len(ordered) // 2], 2), p95_ms=round(1000 * ordered[int(0.95 * len(ordered))], 2),
        error_share=round(1 - good / count, 4),
    )  # fmt: skip


def highest_rate(instance: Instance, requests: Requests, start: float, seconds: float = STEP_S) -> Step | None:
    """The highest rate that was borne: grows until it is not, then halves what lies between. None: not even a sixteenth of the start was."""

    def attempt(rate: float) -> Step:
        step = asyncio.run(at_rate(instance, requests(), rate, seconds))
        return step if step.borne else asyncio.run(at_rate(instance, requests(), rate, seconds))  # something else may have run just then

    best, rate = attempt(start), start
    while not best.borne:
        rate /= 2
        if rate < start / 16:
            return None
        best = attempt(rate)
    too_much = 2 * rate if rate < start else 0.0
    while not too_much:
        step = attempt(best.rate * _GROWTH)
        best, too_much = (step, 0.0) if step.borne else (best, step.rate)
    for _ in range(_HALVINGS):
        step = attempt(math.sqrt(best.rate * too_much))
        best, too_much = (step, too_much) if step.borne else (best, step.rate)
    return best
