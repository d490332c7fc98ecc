"""How large the kill drills are. Seed and chance are those of the isolation tests: `DOCRAY_TEST_SEED`, `DOCRAY_TEST_SIZE=nightly`."""

from dataclasses import dataclass

from tests.isolation.sizes import NIGHTLY, SEED, dice

__all__ = ["FIGURES", "NIGHTLY", "SEED", "SIZES", "dice"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Numbers of things."""

    storm_uploads: int  # of the same bytes, at once
    delete_races: int
    replace_races: int
    drill_documents: int
    drill_rounds: int  # sessions of the product, each with a seed of its own
    drill_kills: int  # of each session


_PULL_REQUEST = Sizes(storm_uploads=1_000, delete_races=200, replace_races=60, drill_documents=100, drill_rounds=1, drill_kills=8)
_NIGHTLY = Sizes(storm_uploads=20_000, delete_races=5_000, replace_races=1_000, drill_documents=1_000, drill_rounds=20, drill_kills=30)

SIZES = _NIGHTLY if NIGHTLY else _PULL_REQUEST

FIGURES: list[str] = []
"""What a run measured, in sentences; printed at its end, asserted nowhere."""
