"""Two rankings into one.

Convex combination of scores, each divided by the best of its query ("theoretical minimum – maximum", Bruch, Gai and Ingber, "An Analysis of
Fusion Functions for Hybrid Retrieval", ACM TOIS 2023), with their share of 0.8 for the dense leg. Measured here against reciprocal rank
fusion: see `benchmarks/retrieval_*.py`. It beats it wherever the legs differ in quality, because how much
better a passage is than the next one counts, not only that it is: on a language that the embedding model does not know all passages look
alike to it, and the words decide.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from docray.domain.questions import Candidate

DENSE_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Fused:
    """A passage with its score and those of the legs that know it."""

    chunk_id: UUID
    score: float
    dense: float | None
    keyword: float | None


def single(candidates: Sequence[Candidate]) -> list[Fused]:
    """One leg's ranking as it is."""
    return [Fused(candidate.chunk_id, candidate.score, candidate.dense, candidate.keyword) for candidate in candidates]


def fuse(dense: Sequence[Candidate], keyword: Sequence[Candidate], dense_share: float = DENSE_SHARE) -> list[Fused]:
    """Both legs' passages, best first. Scores lie in [0, 1]; what a leg does not know of a passage counts as its least."""
    best_dense = max((candidate.dense or -1.0 for candidate in (*dense, *keyword)), default=-1.0) + 1.0
    best_keyword = max((candidate.keyword or 0.0 for candidate in (*dense, *keyword)), default=0.0)
    fused: dict[UUID, Fused] = {}
    for candidate in (*dense, *keyword):
        before = fused.get(candidate.chunk_id)
        near = candidate.dense if candidate.dense is not None or before is None else before.dense
        words = candidate.keyword if candidate.keyword is not None or before is None else before.keyword
        score = dense_share * _share((near if near is not None else -1.0) + 1.0, best_dense) + (1 - dense_share) * _share(words or 0.0, best_keyword)
        fused[candidate.chunk_id] = Fused(candidate.chunk_id, score, near, words)
    return sorted(fused.values(), key=lambda one: (-one.score, one.chunk_id.bytes))


def _share(value: float, best: float) -> float:
    return value / best if best > 0 else 0.0
