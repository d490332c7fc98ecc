"""What a drill on the product does, and what came of it."""

import random
import statistics
from collections import Counter
from dataclasses import dataclass, field
from uuid import UUID

from tests import oracle

PARTS = {
    "worker": "ray::ServeReplica:ingest:IngestWorker",
    "embedder": "ray::ServeReplica:docray:Embedder",
    "gateway": "ray::ServeReplica:docray:Gateway",
    "controller": "ray::ServeController",
    "postgres": "postgres",
    "raylet": "raylet",
}
"""Part → how its process is called."""

STOP = "worker stands still"
TARGETS = (*PARTS, STOP)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a session does."""

    seed: int
    documents: int = 100
    targets: tuple[str, ...] = TARGETS  # in this order
    clients: int = 8
    deleted: float = 0.1  # the share of documents that their client deletes again
    pause_s: tuple[float, float] = (0.5, 3.0)  # from a batch of documents to the kill; the next batch waits until its part has healed

    @classmethod
    def random(cls, seed: int, documents: int, kills: int) -> "Plan":
        """Every target as often as the others, in an order of chance."""
        roll = random.Random(f"{seed}/plan")
        targets = [TARGETS[number % len(TARGETS)] for number in range(kills)]
        roll.shuffle(targets)
        return cls(seed=seed, documents=documents, targets=tuple(targets))


@dataclass
class Outcome:
    """What came of a session."""

    plan: Plan
    acknowledged: set[UUID] = field(default_factory=set)
    deleted: set[UUID] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)  # requests that no retry helped
    recoveries_s: list[tuple[str, float]] = field(default_factory=list)
    findings: list[oracle.Finding] = field(default_factory=list)
    states: dict[str, int] = field(default_factory=dict)
    converged_s: float = 0.0
    requests: int = 0
    repeated: int = 0

    def figures(self) -> dict[str, object]:
        """One line for the record."""
        harms = Counter(each.harm for each in self.findings)
        seconds = sorted(spent for _, spent in self.recoveries_s)
        p95 = seconds[min(len(seconds) - 1, int(len(seconds) * 0.95))] if seconds else 0.0
        return {
            "seed": self.plan.seed, "kills": len(self.recoveries_s), "documents": self.plan.documents, "deleted": len(self.deleted),
            "states": self.states, "requests": self.requests, "repeated": self.repeated, "refused": len(self.refused),
            **{harm: harms.get(harm, 0) for harm in ("lost", "doubled", "stuck", "resurrected", "leaked", "wrong")},
            "recovery_median_s": round(statistics.median(seconds), 1) if seconds else 0.0, "recovery_p95_s": round(p95, 1),
            "converged_s": round(self.converged_s, 1), "recoveries_s": [(part, round(spent, 1)) for part, spent in self.recoveries_s],
        }  # fmt: skip
