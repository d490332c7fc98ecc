"""`docray ingest SOURCE --bulk`: starts a bulk run, on a Ray cluster where one is configured, else on this machine, and follows it."""

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from docray import settings as environment
from docray.cli.common import ExitCode, err, fail, files_of, print_json, running_instance
from docray.client import Client, NotReachable
from docray.instance.bulk_run import LocalRun, NoRayData
from docray.instance.ray_job import ClusterRun, NotSubmitted

_PERIOD_S = 1.0
_JOB = re.compile(r"\bjob ([0-9a-f]{8}-[0-9a-f-]{27}):")
_LAST_LINES = 5


class Started(Protocol):
    """A run that was started: `LocalRun` or `ClusterRun`."""

    def told(self) -> str: ...

    def exit_code(self) -> int | None: ...

    def stop(self) -> None: ...


def ingest_in_bulk(client: Client, source: str, collection: str | None, *, data_dir: Path | None, wait: bool, as_json: bool) -> None:
    """Starts the run and, unless told otherwise, follows it to its end. Ctrl-C stops it; the same command goes on."""
    arguments = ["--source", _absolute(source), "--tenant", client.call("GET", "/v1/me")["tenant"]["id"]]
    arguments += ["--collection", collection] if collection else []
    started = _started(client, arguments, data_dir)
    try:
        job_id = _job_id(started)
        if not wait:
            _tell_started(job_id, as_json)
            return
        job = _followed(client, started, job_id, as_json)
    except KeyboardInterrupt:
        started.stop()
        err.print("Stopped. The same command goes on where it stopped.")
        raise
    except NotSubmitted as error:
        fail(f"{error} The run may go on; see `docray status`.", ExitCode.NOT_REACHABLE)
    _close(job, as_json)


def _absolute(source: str) -> str:
    """The source as the run finds it from anywhere; exit 2 for a path that does not exist."""
    if "://" in source:
        return source
    if not Path(source).exists():
        fail(f"No such file or folder: {source}", ExitCode.USAGE)
    return str(Path(source).absolute())


def _started(client: Client, arguments: Sequence[str], data_dir: Path | None) -> Started:
    settings = environment.load()
    try:
        if settings.ray_dashboard_url:
            token = settings.ray_token.get_secret_value() if settings.ray_token else None
            return ClusterRun(settings.ray_dashboard_url, token, arguments)
        if running_instance(data_dir).url != client.url:
            fail(
                f"{client.url} is not the docray of this machine. Set DOCRAY_RAY_DASHBOARD_URL to its Ray cluster, or submit the run there: "
                "see docs/howto/ingest-in-bulk.md.", ExitCode.USAGE,
            )  # fmt: skip
        return LocalRun(files_of(data_dir), arguments)
    except (NoRayData, NotSubmitted) as error:
        fail(str(error) or str(error.__doc__), ExitCode.FAILED)


def _job_id(started: Started) -> str:
    """The run's id, which it tells first; exit 1 with what it said instead."""
    while True:
        ended = started.exit_code()
        told = started.told()
        found = _JOB.search(told)
        if found:
            return found[1]
        if ended is not None:
            fail("\n".join(told.strip().splitlines()[-_LAST_LINES:]), ExitCode.USAGE if ended == 2 else ExitCode.FAILED)
        time.sleep(_PERIOD_S / 4)


def _tell_started(job_id: str, as_json: bool) -> None:
    if as_json:
        print_json({"event": "started", "job_id": job_id})
    else:
        err.print(f"Job {job_id} runs. See `docray status`.")


def _followed(client: Client, started: Started, job_id: str, as_json: bool) -> dict[str, Any]:
    """The job when its process has ended, told as it changes."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[more]}"), TimeElapsedColumn())
    with Progress(*columns, console=err, disable=as_json or not err.is_terminal) as progress:
        bar = progress.add_task("files", total=None, more="")
        before: dict[str, Any] = {}
        while True:
            ended = started.exit_code() is not None
            try:
                job: dict[str, Any] = client.call("GET", f"/v1/jobs/{job_id}")
            except NotReachable:  # the run goes on without the API, so we wait for both
                if ended:
                    raise
                time.sleep(_PERIOD_S)
                continue
            if job["updated_at"] != before.get("updated_at"):
                before = job
                progress.update(bar, total=job["files"]["total"], completed=job["files"]["ended"], more=progress_of(job))
                if as_json:
                    print_json({"event": "progress", "job": job})
            if ended:
                return job
            time.sleep(_PERIOD_S)


def progress_of(job: dict[str, Any]) -> str:
    """Pages, pace and time left in a few words."""
    words = [f"{job['pages']} pages"]
    if job["pages_per_s"]:
        words.append(f"{job['pages_per_s']:.1f} pages/s")
    if job["pace"] < 1 and job["state"] == "running":
        words.append(f"gives way to searches ({job['pace']:.0%})")
    if job["seconds_left"] is not None:
        words.append(f"{job['seconds_left']:.0f} s left")
    return ", ".join(words)


def _close(job: dict[str, Any], as_json: bool) -> None:
    """The last line and the exit code."""
    files = job["files"]
    if as_json:
        print_json({"event": "done", "ready": files["ready"], "failed": files["failed"], "documents": [], "job": job})
    else:
        err.print(
            f"{files['ready']} ready, {files['failed']} failed, {files['duplicate']} there already, {files['known']} unchanged since an earlier run; "
            f"{job['pages']} pages in {job['seconds']:.0f} s"
        )
    if job["state"] != "done":
        fail(f"The run is {job['state']}: {(job['error'] or {}).get('message', 'the same command goes on')}", ExitCode.FAILED)
    if files["failed"]:
        raise typer.Exit(int(ExitCode.PARTLY if files["ended"] > files["failed"] else ExitCode.FAILED))
