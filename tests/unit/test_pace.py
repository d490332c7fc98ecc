"""The pace of a bulk run: searches first, the run as fast as they allow, never stuck."""

import pytest

from pipelines.pace import FACTOR, Pace

TICK_S = 2.0


def driven(pace: Pace, seconds: float, latency, start: float = 0.0) -> tuple[list[float], float]:  # type: ignore[no-untyped-def]
    """The paces of so many seconds of searches that take `latency(pace)` ms, and when they end."""
    values, at = [], start
    while at < start + seconds:
        at += TICK_S
        values.append(pace.step(latency(pace.value), at))
    return values, at


def test_nobody_searches_and_the_run_takes_all() -> None:
    values, _ = driven(Pace(), 60, lambda _: None)
    assert set(values) == {1.0}


def test_it_pauses_once_to_learn_what_is_usual_then_takes_what_it_may() -> None:
    pace = Pace()
    learning, at = driven(pace, 14, lambda _: 20.0)
    assert set(learning) == {0.0}
    assert pace.idle_ms is None
    values, _ = driven(pace, 120, lambda _: 20.0, at)
    assert pace.idle_ms == 20.0
    assert values[-1] == 1.0, "the run costs the searches nothing, so it takes all"
    assert 0.0 not in values[2:]


@pytest.mark.parametrize("cost", [1.0, 2.0, 5.0])
def test_it_settles_where_searches_stay_within_the_factor(cost: float) -> None:
    """The model: a run at full pace makes searches slower by `cost` times."""
    pace = Pace()
    _, at = driven(pace, 60, lambda value: 20.0 * (1 + cost * value))
    values, _ = driven(pace, 300, lambda value: 20.0 * (1 + cost * value), at)
    slow = sum(20.0 * (1 + cost * value) > FACTOR * 20.0 for value in values)
    assert slow <= 0.05 * len(values)
    assert sum(values) / len(values) > 0.3 * min(1.0, (FACTOR - 1) / cost), "it works no less than it could"


def test_searches_that_become_slow_by_themselves_do_not_stop_the_run_for_good() -> None:
    pace = Pace()
    _, at = driven(pace, 60, lambda _: 20.0)
    _, at = driven(pace, 180, lambda _: 90.0, at)
    assert pace.idle_ms == 90.0, "learnt anew"
    values, _ = driven(pace, 120, lambda _: 90.0, at)
    assert values[-1] == 1.0


def test_when_searches_end_it_takes_all_again_and_forgets() -> None:
    pace = Pace()
    _, at = driven(pace, 60, lambda value: 20.0 * (1 + 9 * value))
    values, _ = driven(pace, 130, lambda _: None, at)
    assert values[-1] == 1.0
    assert pace.idle_ms is None
