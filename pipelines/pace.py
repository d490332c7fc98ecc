"""How much a bulk run may work while people search: found by listening, raised slowly, cut at once.

Pure. What searches take without the run is learnt by pausing it for a moment; then the run takes as much as keeps their 95th percentile
within a factor of that. Additive increase, multiplicative decrease, as in congestion control (Chiu and Jain, 1989).
"""

from docray.observability.latency import WINDOW_S

FACTOR = 1.5
"""What the run may add to the 95th percentile of searches, as a factor of what it is without the run."""

_ROOM = 1.2  # below that the run may take more
_STEP = 0.05
_CUT = 0.6
_CUT_EVERY_S = WINDOW_S / 2  # what a cut does shows only when older searches leave the window
_FLOOR = 0.05
_LEARNING_S = WINDOW_S + 4.0  # until the window holds searches from the pause only
_DOUBT_S = 30.0  # at the floor and still slow: then it is not the run, and what is usual is learnt anew
_FORGET_S = 120.0  # without searches


class Pace:
    """The share of its time that a run may work."""

    def __init__(self) -> None:
        self.value = 1.0
        self.idle_ms: float | None = None
        self._pause_began: float | None = None
        self._last_cut = self._last_heard = self._off_floor = float("-inf")

    def step(self, p95_ms: float | None, at: float) -> float:
        """The share from now on. `p95_ms`: of the last searches, None when there were none; `at`: seconds of a steady clock."""
        if p95_ms is None:
            self._unheard(at)
        else:
            self._last_heard = at
            self._heard(p95_ms, at)
        if self.value > _FLOOR:
            self._off_floor = at
        return self.value

    def _unheard(self, at: float) -> None:
        self._pause_began = None
        self.value = min(1.0, max(_FLOOR, self.value) + 2 * _STEP)
        if at - self._last_heard > _FORGET_S:
            self.idle_ms = None

    def _heard(self, p95_ms: float, at: float) -> None:
        if self._pause_began is not None:
            if at - self._pause_began >= _LEARNING_S:
                self.idle_ms, self._pause_began, self.value = p95_ms, None, 0.3
        elif self.idle_ms is None or (p95_ms > FACTOR * self.idle_ms and at - self._off_floor > _DOUBT_S):
            self._pause_began, self.value = at, 0.0
        elif p95_ms > (FACTOR + _ROOM) / 2 * self.idle_ms:
            if at - self._last_cut >= _CUT_EVERY_S:
                self._last_cut, self.value = at, max(_FLOOR, _CUT * self.value)
        elif p95_ms < _ROOM * self.idle_ms:
            self.value = min(1.0, self.value + _STEP)
