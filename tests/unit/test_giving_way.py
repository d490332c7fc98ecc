"""Operators of a bulk run rest as the pace says."""

import os
import subprocess
import sys

import pytest

from docray.domain.errors import Unavailable
from pipelines.giving_way import Rests


class Clock:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(("pace", "rest_s"), [(1.0, 0.0), (0.5, 1.0), (0.25, 3.0), (0.01, 30.0)])
def test_work_takes_the_share_of_the_pace(pace: float, rest_s: float) -> None:
    clock = Clock()
    Rests(lambda: pace, clock, clock.sleep).after(1.0)
    assert clock.now == pytest.approx(rest_s)


def test_a_pause_ends_when_the_pace_says_so_and_by_itself_when_nobody_does() -> None:
    clock = Clock()
    Rests(lambda: 0.0 if clock.now < 9 else 1.0, clock, clock.sleep).after(1.0)
    assert 9 <= clock.now <= 12
    clock = Clock()
    Rests(lambda: 0.0, clock, clock.sleep).after(1.0)
    assert clock.now == pytest.approx(30.0)


def test_a_pace_that_cannot_be_asked_stays() -> None:
    clock = Clock()
    answers = iter([0.5])

    def pace() -> float:
        try:
            return next(answers)
        except StopIteration:
            raise Unavailable from None

    rests = Rests(pace, clock, clock.sleep)
    rests.after(1.0)
    clock.now += 60
    before = clock.now
    rests.after(1.0)
    assert clock.now - before == pytest.approx(1.0)


def test_the_niceness_is_that_of_the_settings_and_never_falls() -> None:
    program = "import os; from pipelines.giving_way import lower_priority as l; l(); l(); print(os.nice(0)); os.nice(1); l(); print(os.nice(0))"
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "DOCRAY_BULK_NICENESS": str(os.nice(0) + 7)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert [int(word) - os.nice(0) for word in done.stdout.split()] == [7, 8]
