"""The source operator: the files of a run that still wait, straight from PostgreSQL, a range of numbers a task.

A task carries two numbers, not rows, so the driver's memory does not grow with the corpus; and a task that Ray runs again reads only what
is still waiting.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson
import pyarrow
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from docray import settings as environment
from docray import wiring
from docray.domain.bulk import RunFile, SourceFile
from docray.ingestion.bulk import patiently
from pipelines.plan import Plan, crossing_ray

FILES_A_TASK = 64
ROW_BYTES = 400
SCHEMA = pyarrow.schema(
    [("n", pyarrow.int64()), ("uri", pyarrow.string()), ("size_bytes", pyarrow.int64()), ("title", pyarrow.string()), ("metadata", pyarrow.string()),
     ("document_id", pyarrow.string())]
)  # fmt: skip


class Manifest(Datasource):
    """Rows of files that wait: number, URI, size, title, metadata as JSON, document where one was made."""

    def __init__(self, plan: Plan, files: int, files_a_task: int = FILES_A_TASK) -> None:
        """`files`: how many the run has, ended ones included."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._plan = plan
        self._files = files
        self._files_a_task = files_a_task

    def get_name(self) -> str:
        """As the dashboard shows it."""
        return "Manifest"

    def estimate_inmemory_data_size(self) -> int:
        """Bytes of all rows together."""
        return self._files * ROW_BYTES

    def get_read_tasks(self, parallelism: int, per_task_row_limit: int | None = None, data_context: object = None) -> list[ReadTask]:
        """Ranges in order; the same ones each time."""
        del parallelism, per_task_row_limit, data_context
        plan, step = self._plan, self._files_a_task
        tasks = []
        for first in range(0, self._files, step):
            end = min(first + step, self._files)
            metadata = BlockMetadata(num_rows=None, size_bytes=(end - first) * ROW_BYTES, input_files=None, exec_stats=None)

            def read(first: int = first, end: int = end) -> Iterator[pyarrow.Table]:
                with crossing_ray():
                    yield table_of(asyncio.run(patiently(lambda: waiting(plan, first, end))))

            tasks.append(ReadTask(read, metadata, schema=SCHEMA))
        return tasks


async def waiting(plan: Plan, first: int, end: int) -> Sequence[RunFile]:
    """Files of a range that still need work."""
    async with wiring.opened_bulk_stores(environment.load(), connections=1) as stores, stores.catalog.transaction(plan.principal) as tx:
        return await tx.bulk_runs.waiting(plan.driver, first, end)


def table_of(files: Sequence[RunFile]) -> pyarrow.Table:
    """Rows as Arrow."""
    return pyarrow.Table.from_pylist([row_of(each) for each in files], schema=SCHEMA)


def row_of(run_file: RunFile) -> dict[str, Any]:
    """One file as a row."""
    file = run_file.file
    return {
        "n": run_file.n, "uri": file.uri, "size_bytes": file.size_bytes, "title": file.title, "metadata": orjson.dumps(dict(file.metadata)).decode(),
        "document_id": str(run_file.document_id) if run_file.document_id else None,
    }  # fmt: skip


def run_file_of(row: Mapping[str, Any]) -> RunFile:
    """The file of a row."""
    file = SourceFile(uri=row["uri"], size_bytes=int(row["size_bytes"]), etag="", title=row["title"], metadata=orjson.loads(row["metadata"]))
    return RunFile(n=int(row["n"]), file=file, document_id=UUID(row["document_id"]) if row["document_id"] else None)
