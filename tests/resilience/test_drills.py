"""C1 to C9: parts of the product are killed while clients work; nothing is lost, doubled, stuck, resurrected or leaked."""

from pathlib import Path

import pytest

from tests.resilience.drill import session
from tests.resilience.drill_clients import documents_of
from tests.resilience.drill_plan import TARGETS, Plan
from tests.resilience.sizes import FIGURES, SEED, SIZES


def test_a_seed_replays_a_session() -> None:
    assert list(documents_of(7, 40)) == list(documents_of(7, 40)) != list(documents_of(8, 40))
    assert Plan.random(7, 10, 9) == Plan.random(7, 10, 9)
    assert set(Plan.random(7, 10, len(TARGETS)).targets) == set(TARGETS)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", range(SIZES.drill_rounds))
def test_killed_parts_lose_double_and_leak_nothing(number: int, tmp_path: Path) -> None:
    outcome = session(Plan.random(SEED + number, SIZES.drill_documents, SIZES.drill_kills), keep_logs=tmp_path / "logs")
    FIGURES.append(f"C1-C9: {outcome.figures()}")
    assert outcome.findings == [], f"seed {SEED + number}, logs in {tmp_path}"
    assert outcome.refused == []
    assert len(outcome.acknowledged) > SIZES.drill_documents / 2
