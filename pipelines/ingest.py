"""Bulk ingestion: `python -m pipelines.ingest --source FOLDER|MANIFEST.jsonl|s3://… --tenant NAME`, or the same through `ray job submit`.

Reads the source's list, then lets Ray Data read, embed and publish whatever waits. PostgreSQL is the truth: the same command again does
nothing twice, and after a crash it goes on where it stopped. Exits with 0 when the run is through, however many files could not be read;
1 when the run itself failed; 2 for what cannot be started.
"""

import argparse
import contextlib
import json
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from docray import settings as environment
from docray import wiring
from docray.domain.errors import DocrayError, LostLease, RunInProgress
from docray.wiring import BulkStores
from pipelines import report
from pipelines.desk import CannotStart, Desk, Wanted
from pipelines.guard import Guard
from pipelines.heart import TICK_S, Heart, TooManyFailures
from pipelines.manifest import FILES_A_TASK, Manifest
from pipelines.plan import Opened, Plan
from pipelines.sink import Catalogue
from pipelines.sources import BadSource
from pipelines.stages.embed import EmbedChunks
from pipelines.stages.extract import ExtractDocuments

log = logging.getLogger("docray.bulk")

_BROKE = "The run broke. Its log says why; the same command goes on where it stopped."
_BROKEN_PASSES = 3  # in a row, without a file that ended
_OTHERS_WAIT_S = 1_000.0  # longer than a lease: what another run or a worker held has ended by then, or is free
_SOME = 0.001  # of a resource that only says where
_OBJECT_STORE = 512 << 20  # of a Ray of our own: blocks are small, and few are on their way
_BLOCK_BYTES = 256 << 10  # some 100 chunks, or one long document: what is embedded together, and waits for the last of it to be published
_WRITERS = 32  # at most, each with its connections to PostgreSQL
_READERS_A_WRITER = 4  # a page takes 11 ms to write and 45 to read
_TASKS_A_READER = 4  # at least, where there are files enough: so that no reader waits for one that has many to read


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asked for."""

    wanted: Wanted
    max_failures: int | None = None
    extract_actors: int | None = None
    embed_actors: int | None = None
    embed_gpus: float = 0.0
    extract_on: str | None = None
    embed_on: str | None = None
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
    parser.add_argument("--extract-on", metavar="RESOURCE", help="reads on nodes that declare this resource only, so that they scale by themselves")
    parser.add_argument("--embed-on", metavar="RESOURCE", help="embeds on nodes that declare this resource only")
    parser.add_argument("--report", type=Path, help="writes an HTML report there")
    parser.add_argument("--json", dest="as_json", action="store_true", help="the summary as one JSON document")
    given = vars(parser.parse_args(arguments))
    wanted = Wanted(**{name: given.pop(name) for name in Wanted.__slots__})
    return Options(wanted=wanted, **given)


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
        desk = Desk(stores)
        plan = desk.open(self._options.wanted)
        started, cpu = time.monotonic(), report.ClusterClock()
        with contextlib.ExitStack() as stack:
            if self._settings.bulk_guard:
                stack.enter_context(Guard(desk, plan, lambda: wiring.search_latencies(self._settings)))
            heart = stack.enter_context(Heart(desk, plan, self._options.max_failures, self._samples))
            error = self._outcome(desk, plan, heart)
        run = desk.look(plan) if heart.closed else desk.close(plan, error)
        return report.summary(run, desk.failures(plan), seconds=time.monotonic() - started, samples=self._samples, clock=cpu)

    def _outcome(self, desk: Desk, plan: Plan, heart: Heart) -> tuple[str, str] | None:
        """Why the run failed, None when it is through. LostLease when another driver has taken it on."""
        try:
            self._work(desk, plan, heart)
        except LostLease:
            raise
        except TooManyFailures as failures:
            return failures.reason
        except Unfinished as left:
            return "unfinished", str(left)
        except Exception as broken:  # what it says is for the log: a tenant reads the run's error
            log.exception("the run broke")
            return "internal", broken.message if isinstance(broken, DocrayError) else _BROKE
        return None

    def _work(self, desk: Desk, plan: Plan, heart: Heart) -> None:
        """Passes over what waits, until nothing does. A pass that breaks is followed by another: PostgreSQL knows what it had done. What was
        in other hands has ended later, or is free."""
        broken, last_progress = 0, time.monotonic()
        while True:
            desk.settle(plan)
            before = desk.look(plan)
            heart.judge(before)
            if before.ended >= before.files:
                return
            try:
                pipeline(plan, before.files, self._options)
                broke = None
            except Exception as error:
                heart.check()  # what ended the run tells more than how Ray ends with it
                log.warning("a pass broke: %s", error)
                broke = error
            desk.settle(plan)
            if desk.look(plan).ended > before.ended:
                broken, last_progress = 0, time.monotonic()
                continue
            broken = broken + 1 if broke else 0
            if broke and broken >= _BROKEN_PASSES:
                raise broke
            if not broke and time.monotonic() - last_progress > _OTHERS_WAIT_S:
                raise Unfinished(f"{before.files - before.ended} files stayed in other hands. Run the same command again later.")
            time.sleep(TICK_S)


class Unfinished(RuntimeError):
    """Files were left that neither ended nor could be taken."""


def pipeline(plan: Plan, files: int, options: Options) -> None:
    """One pass: the operators, and how much of the cluster each may take."""
    if not ray.is_initialized():
        alone: dict[str, Any] = {"address": "local", "_node_ip_address": "127.0.0.1", "object_store_memory": _OBJECT_STORE}
        given = environment.child_environment().get("RAY_ADDRESS")
        ray.init(log_to_driver=False, logging_level=logging.WARNING, **({} if given else alone | {"include_dashboard": False}))
    data = ray.data
    context = data.DataContext.get_current()
    context.target_max_block_size = _BLOCK_BYTES
    context.enable_progress_bars = sys.stderr.isatty()
    resources: Mapping[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    cpus = int(resources.get("CPU", 1))
    readers = options.extract_actors or max(1, cpus - 1)
    embedders = options.embed_actors or max(1, int(resources.get("GPU", 0) / options.embed_gpus) if options.embed_gpus else cpus // 8)
    writers = max(1, min(_WRITERS, max(cpus, readers) // _READERS_A_WRITER))  # a cluster that scales from nothing has no CPUs yet
    files_a_task = max(1, min(FILES_A_TASK, files // (_TASKS_A_READER * readers)))
    capped = {"max_restarts": 20, "max_task_retries": 4}
    extract_on, embed_on = ({"resources": {name: _SOME}} if name else {} for name in (options.extract_on, options.embed_on))
    (
        data.read_datasource(Manifest(plan, files, files_a_task), num_cpus=0.1, concurrency=1)
        .map(
            ExtractDocuments, fn_constructor_args=(plan,), num_cpus=0.5, memory=512 << 20,
            compute=data.ActorPoolStrategy(min_size=1, max_size=readers, max_tasks_in_flight_per_actor=2), **capped, **extract_on,
        )
        .map_batches(
            EmbedChunks, fn_constructor_args=(plan,), batch_size=None, batch_format="pyarrow", num_cpus=0.5,
            num_gpus=options.embed_gpus or None,
            compute=data.ActorPoolStrategy(min_size=1, max_size=embedders, max_tasks_in_flight_per_actor=2), **capped, **embed_on,
        )
        .write_datasink(Catalogue(plan), ray_remote_args={"num_cpus": 0.1, "max_retries": 4}, concurrency=writers)
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
