"""How large the isolation tests are, and the seed that they roll from.

`DOCRAY_TEST_SIZE=nightly` takes the nightly sizes; `DOCRAY_TEST_SEED=<number>` replays a run. The seed and the figures of a run stand at the
end of pytest's output.
"""

import os
import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Numbers of things."""

    tenants: int
    documents: int  # of each tenant
    requests: int  # of the fuzz
    timed_pairs: int
    layer_requests: int  # of the fuzz with one layer missing
    layer_tenants: int
    pool_uses: int
    cache_examples: int


_PULL_REQUEST = Sizes(
    tenants=20, documents=3, requests=1_500, timed_pairs=100, layer_requests=240, layer_tenants=6, pool_uses=2_000, cache_examples=60
)
_NIGHTLY = Sizes(
    tenants=20, documents=50, requests=100_000, timed_pairs=5_000, layer_requests=10_000, layer_tenants=20, pool_uses=50_000, cache_examples=1_000
)

NIGHTLY = os.environ.get("DOCRAY_TEST_SIZE", "") == "nightly"
SIZES = _NIGHTLY if NIGHTLY else _PULL_REQUEST
SEED = int(os.environ.get("DOCRAY_TEST_SEED") or random.SystemRandom().randrange(2**32))

FIGURES: list[str] = []
"""What a run measured, in sentences; printed at its end, asserted nowhere."""


def dice(subject: str) -> random.Random:
    """Chance for one subject: the same whichever other tests run."""
    return random.Random(f"{SEED}/{subject}")
