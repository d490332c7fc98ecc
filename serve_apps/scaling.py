"""How many ingest workers: by the backlog in PostgreSQL. The controller runs this, so nothing heavy is imported and nothing is asked."""

import math
from typing import Any

JOBS_A_WORKER = 16


def by_backlog(context: Any) -> tuple[float, dict[str, Any]]:
    """One worker for each `JOBS_A_WORKER` jobs that wait. Bounds, factors and delays are Serve's own."""
    reported = (context.aggregated_metrics or {}).get("backlog") or {}
    values = [value for value in reported.values() if value is not None]
    backlog = max(values, default=0.0)  # each replica sees the whole queue
    return max(1, math.ceil(backlog / JOBS_A_WORKER)), context.policy_state
