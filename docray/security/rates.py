"""Requests per minute of each principal, in this process: a bucket that fills evenly and holds one minute's worth.

With several gateways each counts for itself; a limit shared among them needs the shared cache of the cluster profile.
"""

import time
from collections.abc import Callable
from uuid import UUID

from docray.domain.errors import RateLimited

_CAPACITY = 10_000


class RequestRates:
    """One bucket per principal; `per_minute` None limits nothing."""

    def __init__(self, per_minute: int | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._buckets: dict[UUID, tuple[float, float]] = {}  # principal → (requests left, as of)

    def take(self, principal_id: UUID) -> None:
        """Counts one request. RateLimited, with the time until the next one fits, when none is left."""
        if self._per_minute is None:
            return
        now, per_second = self._clock(), self._per_minute / 60.0
        left, since = self._buckets.pop(principal_id, (float(self._per_minute), now))
        left = min(float(self._per_minute), left + (now - since) * per_second)
        self._buckets[principal_id] = (max(0.0, left - 1.0) if left >= 1.0 else left, now)
        while len(self._buckets) > _CAPACITY:
            del self._buckets[next(iter(self._buckets))]
        if left < 1.0:
            raise RateLimited(retry_after_s=(1.0 - left) / per_second)
