"""Bulk ingestion: `python -m pipelines.ingest --source FOLDER|MANIFEST.jsonl|s3://… --tenant NAME`, or the same through `ray job submit`.

Reads the source's list, then lets Ray Data read, embed and publish whatever waits. PostgreSQL is the truth: the same command again does
nothing twice, and after a crash it goes on where it stopped. Exits with 0 when the run is through, however many files could not be read;
1 when the run itself failed; 2 for what cannot be started.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import logging
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import ray

from docray import settings as environment
from docray import wiring
from docray.domain.bulk import BulkRun, Driver, SourceFile
from docray.domain.catalog import Paging
from docray.domain.errors import DocrayError, DuplicateName, LostLease, NotFound, RunInProgress
from docray.domain.ids import new_id, parse_id
from docray.settings import Settings
from docray.wiring import BulkStores
from pipelines import report
from pipelines.manifest import Manifest
from pipelines.plan import Opened, Plan, worker_principal
from pipelines.sink import Catalogue
from pipelines.sources import BadSource, files_of, name_of, sidecar_of
from pipelines.stages.embed import EmbedChunks
from pipelines.stages.extract import ExtractDocuments

log = logging.getLogger("docray.bulk")

DRIVER_LEASE_S = 60.0
TICK_S = 5.0
_FILES_A_STATEMENT = 2_000
_PASSES = 3
_OTHERS_WAIT_S = 1_000.0  # longer than a lease: what another run or a worker held has ended by then, or is free
_EMBED_ROWS = 32


class CannotStart(Exception):
    """The command asks for what is not there. The message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asked for."""

    source: str
    tenant: str
    collection: str | None = None
    metadata_from: str | None = None
    max_failures: int | None = None
    resume: bool = False
    extract_actors: int | None = None
    embed_actors: int | None = None
    embed_gpus: float = 0.0
    report: Path | None = None
    as_json: bool = False


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    options = parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Ray tells on stdout of nodes that died; ours holds the summary alone
            summary = Ingestion(options).run()
    except (CannotStart, BadSource, RunInProgress) as error:
        print(f"cannot start: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except DocrayError as error:
        print(f"failed: {error.message}", file=sys.stderr)  # noqa: T201
        return 1
    print(json.dumps(summary, default=str) if options.as_json else report.as_text(summary))  # noqa: T201
    if options.report:
        options.report.write_text(report.as_html(summary), encoding="utf-8")
    return 0 if summary["state"] == "done" else 1


def parse(arguments: Sequence[str] | None) -> Options:
    """Options; SystemExit(2) for a command that makes no sense."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.ingest", description="Ingests every PDF of a source.")
    parser.add_argument("--source", required=True, help="a folder, a manifest of JSON lines, or s3://bucket/prefix")
    parser.add_argument("--tenant", default="default", help="name or id (default: %(default)s)")
    parser.add_argument("--collection", help="name or id; made when the name is new")
    parser.add_argument("--metadata-from", help='JSON file of {"name.pdf": {"title": …, "metadata": {…}}}')
    parser.add_argument("--max-failures", type=int, help="ends the run when more files than that could not be read")
    parser.add_argument("--resume", action="store_true", help="goes on with the unfinished run of this source without listing it anew")
    parser.add_argument("--extract-actors", type=int, help="processes that read PDFs at most (default: by the cluster's CPUs)")
    parser.add_argument("--embed-actors", type=int, help="processes that embed at most (default: by the cluster's GPUs or CPUs)")
    parser.add_argument("--embed-gpus", type=float, default=0.0, help="the share of a GPU that each of them takes (default: none)")
    parser.add_argument("--report", type=Path, help="writes an HTML report there")
    parser.add_argument("--json", dest="as_json", action="store_true", help="the summary as one JSON document")
    return Options(**vars(parser.parse_args(arguments)))


class Ingestion:
    """One run of the command."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._settings = environment.load()
        self._samples: list[dict[str, float]] = []

    def run(self) -> Mapping[str, Any]:
        """Everything; the summary. CannotStart, BadSource and RunInProgress before anything has changed."""
        stores = Opened(lambda: wiring.opened_bulk_stores(self._settings, connections=2))
        try:
            return self._run(stores)
        finally:
            stores.close()
            ray.shutdown()  # or it goes on telling of its nodes on stdout

    def _run(self, stores: "Opened[BulkStores]") -> Mapping[str, Any]:
        desk = Desk(stores, self._options, self._settings)
        plan = desk.open()
        started, cpu = time.monotonic(), report.ClusterClock()
        error: tuple[str, str] | None = None
        try:
            with Heart(desk, plan, self._options.max_failures, self._samples) as heart:
                try:
                    self._work(desk, plan, heart)
                except Exception:
                    heart.check()  # what ended the run tells more than what Ray says of being ended
                    raise
        except TooManyFailures as failures:
            error = ("too_many_failures", str(failures))
        except LostLease:
            raise
        except Exception as broken:
            log.exception("the run broke")
            error = ("internal", f"{type(broken).__name__}: {broken}"[:500])
        run = desk.close(plan, error)
        return report.summary(run, desk.failures(plan), seconds=time.monotonic() - started, samples=self._samples, clock=cpu)

    def _work(self, desk: "Desk", plan: Plan, heart: "Heart") -> None:
        """Passes over what waits, until nothing does: what was in other hands at first has ended later, or is free."""
        desk.settle(plan)
        deadline = time.monotonic() + _OTHERS_WAIT_S
        for number in itertools.count(1):
            run = desk.look(plan)
            heart.judge(run)
            if run.ended >= run.files:
                return
            before = run.ended
            pipeline(plan, run.files, self._options)
            heart.check()
            desk.settle(plan)
            run = desk.look(plan)
            heart.judge(run)
            if run.ended == before and (number >= _PASSES or time.monotonic() > deadline):
                raise Unfinished(f"{run.files - run.ended} files stayed in other hands. Run the same command again later.")
            if run.ended == before:
                time.sleep(TICK_S)


class Unfinished(RuntimeError):
    """Files were left that neither ended nor could be taken."""


class TooManyFailures(RuntimeError):
    """More files failed than `--max-failures` allows."""


def pipeline(plan: Plan, files: int, options: Options) -> None:
    """One pass: the operators, and how much of the cluster each may take."""
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level=logging.WARNING)
    data = ray.data
    context = data.DataContext.get_current()
    context.target_max_block_size = 16 << 20
    context.enable_progress_bars = sys.stderr.isatty()
    cpus = int(ray.cluster_resources().get("CPU", 1))
    readers = options.extract_actors or max(1, cpus - 1)
    embedders = options.embed_actors or max(1, int(ray.cluster_resources().get("GPU", 0) / options.embed_gpus) if options.embed_gpus else cpus // 8)
    capped = {"max_restarts": 20, "max_task_retries": 4}
    (
        data.read_datasource(Manifest(plan, files), num_cpus=0.1)
        .map(
            ExtractDocuments, fn_constructor_args=(plan,), num_cpus=0.5, memory=512 << 20,
            compute=data.ActorPoolStrategy(min_size=1, max_size=readers, max_tasks_in_flight_per_actor=2), **capped,
        )
        .map_batches(
            EmbedChunks, batch_size=_EMBED_ROWS, batch_format="pyarrow", num_cpus=0.5, num_gpus=options.embed_gpus or None,
            compute=data.ActorPoolStrategy(min_size=1, max_size=embedders, max_tasks_in_flight_per_actor=2), **capped,
        )
        .write_datasink(Catalogue(plan), ray_remote_args={"num_cpus": 0.1, "max_retries": 4})
    )  # fmt: skip


class Desk:
    """The driver's dealings with PostgreSQL."""

    def __init__(self, stores: "Opened[BulkStores]", options: Options, settings: Settings) -> None:
        self._stores = stores
        self._options = options
        self._settings = settings

    def open(self) -> Plan:
        """The run of this source, new or taken on, with every file of the source in it."""
        return self._stores.run(self._open())

    def keep(self, plan: Plan, seconds: float) -> BulkRun:
        """Extends the lease; the run as it is now. LostLease when another driver drives."""
        return self._stores.run(self._keep(plan, seconds))

    def look(self, plan: Plan) -> BulkRun:
        """The run as it is now."""
        return self._stores.run(self._look(plan))

    def settle(self, plan: Plan) -> int:
        """Ends files whose document has ended without the run."""
        return self._stores.run(self._settle(plan))

    def close(self, plan: Plan, error: tuple[str, str] | None) -> BulkRun:
        """Ends the run."""
        return self._stores.run(self._close(plan, error))

    def failures(self, plan: Plan) -> tuple[Mapping[str, int], Sequence[tuple[str, str, str]]]:
        """How many files failed by code, and the first thousand of them."""
        return self._stores.run(self._failures(plan))

    async def _open(self) -> Plan:
        options, catalog = self._options, self._stores.service.catalog
        tenant_id, tenant_name = await self._tenant()
        source = name_of(options.source)
        files = None if options.resume else files_of(options.source, sidecar_of(options.metadata_from) if options.metadata_from else None)
        first = list(itertools.islice(files, 1)) if files is not None else []
        if files is not None and not first:
            raise CannotStart(f"There is no PDF in {options.source}.")
        principal = worker_principal(tenant_id, tenant_name, new_id())
        async with catalog.transaction(principal) as tx:
            collection_id = await self._collection(tx, options.collection) if options.collection else None
        async with catalog.transaction(principal) as tx:
            run = await tx.bulk_runs.unfinished(source, collection_id)
            if run is None:
                if options.resume:
                    raise CannotStart(f"There is no unfinished run of {source}. Leave --resume out to start one.")
                await tx.bulk_runs.insert(principal.id, source, collection_id)
                await tx.audit("bulk.start", "job", principal.id, {"source": source})
            driver = await tx.bulk_runs.drive(run.id if run else principal.id, DRIVER_LEASE_S)
        plan = Plan(tenant_id=tenant_id, tenant_name=tenant_name, driver=driver, collection_id=collection_id)
        log.info("job %s: %s", driver.run_id, "goes on" if run else "starts")
        if files is not None:
            await self._add(plan, driver, itertools.chain(first, files))
        return plan

    async def _add(self, plan: Plan, driver: Driver, files: Iterator[SourceFile]) -> None:
        while batch := await asyncio.to_thread(lambda: list(itertools.islice(files, _FILES_A_STATEMENT))):
            async with self._stores.service.catalog.transaction(plan.principal) as tx:
                await tx.bulk_runs.add_files(driver, batch)
                await tx.bulk_runs.keep(driver, DRIVER_LEASE_S, 0.0)

    async def _tenant(self) -> tuple[UUID, str]:
        given = self._options.tenant
        tenant = await self._stores.service.tenants.find_by_name(given)
        if tenant is not None:
            return tenant.id, tenant.name
        found = parse_id(given)
        if found is None:
            raise CannotStart(f"There is no tenant {given}.")
        return found, given

    async def _collection(self, tx: Any, given: str) -> UUID:
        found = parse_id(given)
        if found is not None:
            try:
                await tx.collections.get(found)
            except NotFound:
                raise CannotStart(f"There is no collection {given}.") from None
            return found
        paging = Paging(limit=200)
        while True:
            page = await tx.collections.list(paging)
            for collection in page.items:
                if collection.name == given:
                    return collection.id
            if page.next_cursor is None:
                break
            paging = Paging(limit=200, after=page.next_cursor)
        with contextlib.suppress(DuplicateName):
            return (await tx.collections.insert(new_id(), name=given, description=None, metadata={})).id
        raise CannotStart(f"The collection {given} was made at this moment. Run the command again.")

    async def _keep(self, plan: Plan, seconds: float) -> BulkRun:
        async with self._stores.service.catalog.transaction(plan.principal) as tx:
            await tx.bulk_runs.keep(plan.driver, DRIVER_LEASE_S, seconds)
            return await tx.bulk_runs.get(plan.driver.run_id)

    async def _look(self, plan: Plan) -> BulkRun:
        async with self._stores.service.catalog.transaction(plan.principal) as tx:
            return await tx.bulk_runs.get(plan.driver.run_id)

    async def _settle(self, plan: Plan) -> int:
        async with self._stores.service.catalog.transaction(plan.principal) as tx:
            return await tx.bulk_runs.settle(plan.driver)

    async def _close(self, plan: Plan, error: tuple[str, str] | None) -> BulkRun:
        async with self._stores.service.catalog.transaction(plan.principal) as tx:
            run = await tx.bulk_runs.finish(plan.driver, error)
            await tx.audit("bulk.end", "job", run.id, {"state": run.state.value, "ready": run.ready, "failed": run.failed})
            return run

    async def _failures(self, plan: Plan) -> tuple[Mapping[str, int], Sequence[tuple[str, str, str]]]:
        async with self._stores.service.catalog.transaction(plan.principal) as tx:
            run_id = plan.driver.run_id
            return await tx.bulk_runs.failure_counts(run_id), await tx.bulk_runs.failures(run_id, 1000)


class Heart:
    """Keeps the driver's lease while the block runs, tells progress, and notes when the run must not go on."""

    def __init__(self, desk: Desk, plan: Plan, max_failures: int | None, samples: list[dict[str, float]]) -> None:
        self._desk = desk
        self._plan = plan
        self._max_failures = max_failures
        self._samples = samples
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._beat, name="heart", daemon=True)
        self._started = self._last = time.monotonic()

    def __enter__(self) -> "Heart":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(DocrayError):
            self._tick()

    def check(self) -> None:
        """Raises what ended the run: LostLease, TooManyFailures."""
        if self._error:
            raise self._error

    def judge(self, run: BulkRun) -> None:
        """TooManyFailures when more files failed than are allowed."""
        self.check()
        if self._max_failures is not None and run.failed > self._max_failures:
            raise TooManyFailures(f"{run.failed} files could not be ingested, {self._max_failures} may.")

    def _beat(self) -> None:
        while not self._stop.wait(TICK_S):
            try:
                run = self._tick()
            except LostLease as error:
                self._end(error)
                return
            except DocrayError as error:
                log.warning("a heartbeat failed; the lease may run out: %s", error.message)
                continue
            try:
                self.judge(run)
            except TooManyFailures as error:
                self._end(error)
                return

    def _tick(self) -> BulkRun:
        now = time.monotonic()
        run = self._desk.keep(self._plan, now - self._last)
        self._last = now
        self._samples.append({
            "seconds": now - self._started, "ended": run.ended, "failed": run.failed, "pages": run.pages, "chunks": run.chunks,
            "memory_bytes": report.memory_bytes(),
        })  # fmt: skip
        log.info("%s", report.progress_line(run))
        return run

    def _end(self, error: Exception) -> None:
        """Ray Data cannot be asked to stop from outside, so its tasks are: the run's executor then raises."""
        self._error = error
        ray.shutdown()


if __name__ == "__main__":
    raise SystemExit(main())
