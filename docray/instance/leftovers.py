"""Finds every process of an instance, however it was orphaned, and ends it.

Two traces: `children.json` holds the process ids of what the supervisor started itself, with their start times (a number alone may be
somebody else's by the time it is read); and all that descends from it carries `DOCRAY_INSTANCE` in its environment. The second
finds what no process tree shows any more: a HAProxy that was started anew while Ray was going down, workers of a killed raylet.
"""

import contextlib
import json
import os
import signal
from collections.abc import Iterator, Sequence

import psutil

from docray.instance.child import Child, end_family
from docray.instance.files import InstanceFiles, write_private

MARK = "DOCRAY_INSTANCE"
_GRACE_S = 15.0
_ROUNDS = 20


def record(files: InstanceFiles, children: Sequence[Child]) -> None:
    """Writes down what runs now."""
    rows = []
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.pid is not None:
                rows.append({"name": child.name, "pid": child.pid, "started": psutil.Process(child.pid).create_time()})
    write_private(files.children, json.dumps(rows))


def mark_of(files: InstanceFiles) -> str:
    """What this instance's processes carry in their environment."""
    return files.run.name


def bulk_mark_of(files: InstanceFiles) -> str:
    """What a bulk run on this machine carries: it outlives a restart of the instance's Ray, not `docray down`."""
    return f"{files.run.name}-bulk"


def end_marked(mark: str) -> int:
    """Kills what carries the mark, until nothing does; returns how many that were. For after all were asked to end."""
    ended = 0
    for _ in range(_ROUNDS):
        found = list(_marked(mark))
        if not found:
            break
        ended += len(found)
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(found, timeout=2)
    return ended


def _marked(mark: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def end_recorded(files: InstanceFiles) -> int:
    """Ends the processes that `children.json` names, where they are still the same ones, and then what carries the mark."""
    try:
        rows = json.loads(files.children.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        rows = []
    ended = 0
    for row in reversed(rows):
        with contextlib.suppress(psutil.NoSuchProcess):
            if abs(psutil.Process(row["pid"]).create_time() - row["started"]) < 1.0:
                end_family(row["pid"], signal.SIGINT if row["name"] == "postgres" else signal.SIGTERM, _GRACE_S)
                ended += 1
    files.children.unlink(missing_ok=True)
    return ended + end_marked(mark_of(files))
