"""Keeps searches fast while a run works: hears how long they take, sets the run's pace. A thread beside the run; without it the run goes on."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from types import TracebackType

from docray.domain.errors import DocrayError, LostLease
from docray.domain.latency import SearchLatency
from pipelines.desk import Desk
from pipelines.pace import Pace
from pipelines.plan import Plan

log = logging.getLogger("docray.bulk")

_TICK_S = 2.0
_FRESH_S = 6.0  # a gateway that told nothing for that long has no searches, or is gone
_FEWEST = 5  # searches that a percentile tells anything of
_AGAIN_S = 5.0


class Guard:
    """Sets the run's pace while the block runs."""

    def __init__(self, desk: Desk, plan: Plan, latencies: Callable[[], AsyncIterator[SearchLatency]]) -> None:
        self._desk = desk
        self._plan = plan
        self._latencies = latencies
        self._pace = Pace()
        self._told: dict[str, tuple[float, SearchLatency]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="guard", daemon=True)

    def __enter__(self) -> "Guard":
        self._task = self._loop.create_task(self._watch())
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    async def _watch(self) -> None:
        listening = asyncio.create_task(self._listen())
        set_to = 1.0
        try:
            while True:
                await asyncio.sleep(_TICK_S)
                wanted = self._pace.step(self._p95_ms(), time.monotonic())
                if abs(wanted - set_to) > 0.005:
                    try:
                        await asyncio.to_thread(self._desk.set_pace, self._plan, wanted)
                    except LostLease:  # the run has ended, or another driver has it
                        return
                    except DocrayError as error:
                        log.warning("the pace could not be set: %s", error.message)
                        continue
                    log.info("pace %.0f %% (searches take %s ms without the run)", 100 * wanted, _told(self._pace.idle_ms))
                    set_to = wanted
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _listen(self) -> None:
        while True:
            with contextlib.suppress(DocrayError):
                async for latency in self._latencies():
                    if latency.searches >= _FEWEST:
                        self._told[latency.gateway] = (time.monotonic(), latency)
            await asyncio.sleep(_AGAIN_S)

    def _p95_ms(self) -> float | None:
        """Of the gateway where searches take longest now."""
        since = time.monotonic() - _FRESH_S
        self._told = {gateway: told for gateway, told in self._told.items() if told[0] > since}
        return max((latency.p95_ms for _, latency in self._told.values()), default=None)


def _told(idle_ms: float | None) -> str:
    return "?" if idle_ms is None else f"{idle_ms:.1f}"
