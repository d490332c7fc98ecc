"""A bulk run beside the instance of this machine: a process of its own with a Ray of its own, so that it shares the stores but not fate.

Owns the command, its environment and its end. Leaves the run itself to `pipelines.ingest`, which needs Ray Data: an environment of its own
(`make setup-bulk`), for every process of the instance's Ray would start slower with it.
"""

import importlib.util
import secrets
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from docray import settings as environment
from docray.instance import postgres
from docray.instance.child import end_family
from docray.instance.files import InstanceFiles
from docray.instance.leftovers import MARK, bulk_mark_of
from docray.instance.ray_head import project_root

_GRACE_S = 20.0


class NoRayData(Exception):
    """Bulk ingestion needs Ray Data, which is not set up. Run `make setup-bulk` once."""


class LocalRun:
    """`pipelines.ingest` on this machine, over an instance's stores."""

    def __init__(self, files: InstanceFiles, arguments: Sequence[str]) -> None:
        """Starts it, in a session of its own: closing the terminal does not end it. NoRayData where it cannot run."""
        self.log = files.logs / "bulk.log"
        python = _python()
        files.prepare()
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [python, "-m", "pipelines.ingest", *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env=_environment(files), cwd=project_root(), start_new_session=True,
            )  # fmt: skip

    def told(self) -> str:
        """What it has said so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def exit_code(self) -> int | None:
        """How it ended, None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Ends it and its Ray. The same command goes on where it stopped."""
        end_family(self._process.pid, signal.SIGTERM, _GRACE_S)


def _python() -> str:
    """The interpreter that has Ray Data: this one, or that of `make setup-bulk`."""
    if importlib.util.find_spec("pyarrow") and importlib.util.find_spec("pandas"):
        return sys.executable
    beside: Path = project_root() / ".venv-bulk" / "bin" / "python"
    if beside.is_file():
        return str(beside)
    raise NoRayData


def _environment(files: InstanceFiles) -> dict[str, str]:
    settings = environment.load()
    found = environment.child_environment(
        PYTHONPATH=str(project_root()), PYTHONUNBUFFERED="1", DOCRAY_DATA_DIR=str(files.data_dir), RAY_AUTH_MODE="token",
        RAY_AUTH_TOKEN=secrets.token_hex(32), RAY_USAGE_STATS_ENABLED="0", RAY_TMPDIR=str(files.run / "bulk"), **{MARK: bulk_mark_of(files)},
    )  # fmt: skip
    found.pop("RAY_ADDRESS", None)
    if settings.database_dsn is None:
        found["DOCRAY_DATABASE_DSN"] = postgres.dsn(files.postgres, "docray_app")
        found["DOCRAY_DATABASE_WORKER_DSN"] = postgres.dsn(files.postgres, "docray_worker")
    return found
