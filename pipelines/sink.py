"""The sink: indexes and publishes documents, each under the fence of its lease. What has been published is not published again."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from ray.data import Datasink
from ray.data.block import Block, BlockAccessor

from docray import settings as environment
from docray import wiring
from docray.ingestion.bulk import BulkWriter
from pipelines.giving_way import lower_priority
from pipelines.plan import Plan, crossing_ray, opened_once
from pipelines.stages.embed import unpacked

_AT_ONCE = 2  # documents of a task: while one waits for PostgreSQL the other's postings are made


class Catalogue(Datasink[dict[str, int]]):
    """Writes rows of chunks with vectors; each task tells how many documents it published."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def write(self, blocks: Iterable[Block], ctx: Any) -> dict[str, int]:
        """One task's documents."""
        del ctx
        opened = opened_once(_writer)
        told: Counter[str] = Counter()
        for block in blocks:
            rows: list[Any] = list(BlockAccessor.for_block(block).iter_rows(public_row_format=True))
            rows = [row for row in rows if row["payload"]]
            with crossing_ray():
                told.update(opened.run(_written(opened.service, self._plan, rows)))
        return dict(told)


def _writer() -> Any:
    lower_priority()
    return wiring.opened_bulk_writer(environment.load())


async def _written(writer: BulkWriter, plan: Plan, rows: list[Any]) -> Counter[str]:
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(row: Mapping[str, Any]) -> bool:
        async with slots:
            file = unpacked(row["payload"])
            vectors = np.frombuffer(row["vectors"], np.float32).reshape(len(file.chunks), -1)
            return await writer.write(plan.principal, plan.driver, file, vectors, row["model_id"])

    published = await asyncio.gather(*(one(row) for row in rows))
    return Counter(published=sum(published), elsewhere=len(published) - sum(published))
