"""The last searches of this process: how long they took."""

import math
import time
from collections import deque
from collections.abc import Callable

from docray.domain.latency import SearchLatency

WINDOW_S = 10.0
_MOST = 2_000  # searches that are remembered


class LatencyWindow:
    """Durations of the last ten seconds."""

    def __init__(self, gateway: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._gateway = gateway
        self._clock = clock
        self._durations: deque[tuple[float, float]] = deque(maxlen=_MOST)

    def note(self, milliseconds: float) -> None:
        """A search has ended."""
        self._durations.append((self._clock(), milliseconds))

    def latency(self) -> SearchLatency | None:
        """What they tell; None when nobody searched."""
        since = self._clock() - WINDOW_S
        while self._durations and self._durations[0][0] < since:
            self._durations.popleft()
        ordered = sorted(milliseconds for _, milliseconds in self._durations)
        if not ordered:
            return None
        p95_ms = ordered[math.ceil(0.95 * len(ordered)) - 1]
        return SearchLatency(gateway=self._gateway, p95_ms=p95_ms, searches=len(ordered))
