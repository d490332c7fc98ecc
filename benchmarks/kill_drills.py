"""Kill drills on the product: `python -m benchmarks.kill_drills --seeds 3 --documents 100 --kills 10` (starts instances of its own).

Each seed is a session of `tests.resilience.drill`: clients upload and delete while parts are killed; then the oracle looks. One line of JSON a
session, one of all of them. A session that does not hold says what, leaves its logs behind, and the exit status is 1.
"""

import argparse
import random
import statistics
import sys
from pathlib import Path

from benchmarks.instance import figure
from tests.resilience.drill import session
from tests.resilience.drill_plan import TARGETS, Outcome, Plan

HARMS = ("lost", "doubled", "stuck", "resurrected", "leaked", "wrong")


def main() -> int:
    """Prints JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="how many sessions")
    parser.add_argument("--first-seed", type=int, default=random.SystemRandom().randrange(2**32), help="of the first one; the others follow")
    parser.add_argument("--documents", type=int, default=100)
    parser.add_argument("--kills", type=int, default=len(TARGETS))
    parser.add_argument("--target", choices=TARGETS, action="append", help="only these, by turns")
    parser.add_argument("--logs", type=Path, default=Path("kill-drill-logs"))
    options = parser.parse_args()
    outcomes = []
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        plan = Plan.random(seed, options.documents, options.kills)
        if options.target:
            plan = Plan(seed=seed, documents=options.documents, targets=tuple(options.target[n % len(options.target)] for n in range(options.kills)))
        outcome = session(plan, keep_logs=options.logs / str(seed))
        outcomes.append(outcome)
        figure(benchmark="kill_drill", **outcome.figures())
        for finding in [*outcome.findings, *outcome.refused][:20]:
            print(finding, file=sys.stderr, flush=True)
    figure(benchmark="kill_drills", **total(outcomes))
    return int(any(outcome.findings or outcome.refused for outcome in outcomes))


def total(outcomes: list[Outcome]) -> dict[str, object]:
    """All sessions as one."""
    seconds = sorted(spent for outcome in outcomes for _, spent in outcome.recoveries_s)
    return {
        "runs": len(outcomes), "kills": len(seconds), "documents": sum(outcome.plan.documents for outcome in outcomes),
        "refused": sum(len(outcome.refused) for outcome in outcomes),
        **{harm: sum(each.harm == harm for outcome in outcomes for each in outcome.findings) for harm in HARMS},
        "recovery_median_s": round(statistics.median(seconds), 1) if seconds else 0.0,
        "recovery_p95_s": round(seconds[min(len(seconds) - 1, int(len(seconds) * 0.95))], 1) if seconds else 0.0,
        "recovery_by_target_s": {
            target: round(statistics.median(found), 1)
            for target in TARGETS
            if (found := [spent for outcome in outcomes for part, spent in outcome.recoveries_s if part == target])
        },
    }  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
