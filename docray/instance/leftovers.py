"""What a killed supervisor leaves running: process ids with their start times, in `children.json`.

A number alone may be somebody else's by the time it is read; with its start time it is the same process or none.
"""

import contextlib
import json
import signal
from collections.abc import Sequence

import psutil

from docray.instance.child import Child, end_family
from docray.instance.files import InstanceFiles, write_private

_GRACE_S = 15.0


def record(files: InstanceFiles, children: Sequence[Child]) -> None:
    """Writes down what runs now."""
    rows = []
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.pid is not None:
                rows.append({"name": child.name, "pid": child.pid, "started": psutil.Process(child.pid).create_time()})
    write_private(files.children, json.dumps(rows))


def end_recorded(files: InstanceFiles) -> int:
    """Ends the processes that `children.json` names, where they are still the same ones; returns how many were."""
    try:
        rows = json.loads(files.children.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0
    ended = 0
    for row in reversed(rows):
        with contextlib.suppress(psutil.NoSuchProcess):
            if abs(psutil.Process(row["pid"]).create_time() - row["started"]) < 1.0:
                end_family(row["pid"], signal.SIGINT if row["name"] == "postgres" else signal.SIGTERM, _GRACE_S)
                ended += 1
    files.children.unlink(missing_ok=True)
    return ended
