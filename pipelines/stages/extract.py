"""The operator that reads: bytes from the source, a document in PostgreSQL, pages and chunks by the sandboxed parser."""

import pickle
import time
from typing import Any

from docray import settings as environment
from docray import wiring
from models.configured import token_counter
from pipelines.giving_way import lower_priority, rests_of
from pipelines.manifest import run_file_of
from pipelines.plan import Opened, Plan, crossing_ray
from pipelines.sources import fetch


class ExtractDocuments:
    """Row of a file → row of its chunks: `n`, `chunks` (how many) and `payload` (a pickled `ReadFile`), empty where there is nothing to do.

    An actor, for the parser server that it starts; a PDF that crashes the parser ends as a row, not as a dead actor.
    """

    def __init__(self, plan: Plan) -> None:
        lower_priority()
        self._plan = plan
        self._rests = rests_of(plan)
        settings = environment.load()
        counter = token_counter(settings)
        self._reader = Opened(
            lambda: wiring.opened_bulk_reader(
                settings, count_tokens=counter.count, max_tokens=counter.max_tokens, model_id=counter.model_id, fetch=fetch
            )
        )

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Reads one file."""
        plan, started = self._plan, time.monotonic()
        with crossing_ray():
            read = self._reader.run(self._reader.service.read(plan.principal, plan.driver, run_file_of(row), plan.collection_ids))
        self._rests.after(time.monotonic() - started)
        payload = pickle.dumps(read, protocol=5) if read is not None else b""
        return {"n": row["n"], "chunks": len(read.chunks) if read else 0, "payload": payload}
