"""How long searches take, as one gateway tells others."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchLatency:
    """The 95th percentile of a gateway's last searches, in milliseconds, and how many they are."""

    gateway: str
    p95_ms: float
    searches: int
