"""How operators of a run give way to people who search: by a low priority of their processes, and by resting as the run's pace says."""

import contextlib
import os
import time
from collections.abc import Callable

from docray import settings as environment
from docray import wiring
from docray.domain.errors import DocrayError
from docray.wiring import BulkStores
from pipelines.plan import Opened, Plan

_ASKED_EVERY_S = 2.0
_LONGEST_REST_S = 30.0


def lower_priority() -> None:
    """Gives this process, and what it starts from now on, the niceness of the settings. Threads that run already keep theirs."""
    wanted = environment.current().bulk_niceness
    with contextlib.suppress(OSError):  # a system that does not let it be lowered
        os.nice(max(0, wanted - os.nice(0)))


class Rests:
    """Rests after work, so that work takes the pace's share of the time. At pace 0 it waits, half a minute at most: a driver
    that died in the wrong moment must not hold it. `pace` is asked every two seconds."""

    def __init__(self, pace: Callable[[], float], clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep) -> None:
        self._ask = pace
        self._clock = clock
        self._sleep = sleep
        self._pace = 1.0
        self._asked = float("-inf")

    def after(self, worked_s: float) -> None:
        """Returns when the next piece of work may begin."""
        rested = 0.0
        while rested < self._wanted_s(worked_s):
            piece = min(_ASKED_EVERY_S, self._wanted_s(worked_s) - rested)
            self._sleep(piece)
            rested += piece

    def _wanted_s(self, worked_s: float) -> float:
        if self._clock() - self._asked >= _ASKED_EVERY_S:
            self._asked = self._clock()
            with contextlib.suppress(DocrayError):  # then it stays what it was
                self._pace = self._ask()
        return _LONGEST_REST_S if self._pace <= 0 else min(_LONGEST_REST_S, worked_s * (1 / self._pace - 1))


def pace_of(stores: "Opened[BulkStores]", plan: Plan) -> float:
    """What the run's pace is now."""

    async def asked() -> float:
        async with stores.service.catalog.transaction(plan.principal) as tx:
            return (await tx.bulk_runs.get(plan.driver.run_id)).pace

    return stores.run(asked())


def rests_of(plan: Plan) -> Rests:
    """The rests of an operator of this run, over one connection of its own; none where the guard is switched off."""
    settings = environment.load()
    if not settings.bulk_guard:
        return Rests(lambda: 1.0)
    stores = Opened(lambda: wiring.opened_bulk_stores(settings, connections=1))
    return Rests(lambda: pace_of(stores, plan))
