"""Starting and stopping an instance from the outside: `docray up` and `docray down`. The supervisor does the work."""

import contextlib
import fcntl
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from docray import settings as environment
from docray.instance.child import end_family
from docray.instance.files import Instance, InstanceFiles
from docray.instance.leftovers import bulk_mark_of, end_marked, end_recorded
from docray.instance.probing import answers

_READY_TIMEOUT_S = 300.0
_DOWN_GRACE_S = 60.0


class StartFailed(Exception):
    """docray could not be started; the message says why and what to do."""


def up(files: InstanceFiles, port: int | None, tell: Callable[[str], None]) -> tuple[Instance, list[str]]:
    """The running instance, started if need be → (instance, notes for people). StartFailed when it does not come up."""
    wanted = port or environment.load().port
    try:
        files.prepare()
    except OSError as error:
        raise StartFailed(f"The data folder cannot be used: {error}") from error
    process = None if supervisor_pid(files) else _spawn(files, port)
    try:
        instance = _await_ready(files, process, tell)
    except KeyboardInterrupt:
        down(files)
        raise
    used = int(instance.url.rsplit(":", 1)[1])
    notes = [f"Port {wanted} is taken; docray uses {used}."] if process and used != wanted else []
    return instance, notes


def down(files: InstanceFiles) -> bool:
    """Stops a bulk run, then the supervisor, which stops what it started; ends leftovers of a killed one. Whether anything ran."""
    end_marked(bulk_mark_of(files))
    pid = supervisor_pid(files)
    if pid is not None:
        end_family(pid, signal.SIGTERM, _DOWN_GRACE_S)
    left = end_recorded(files) if files.data_dir.is_dir() else 0
    files.instance.unlink(missing_ok=True)
    return pid is not None or left > 0


def supervisor_pid(files: InstanceFiles) -> int | None:
    """The supervisor's process id while it holds its lock."""
    try:
        with files.lock.open("r") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(lock.read() or 0) or None
    except (OSError, ValueError):
        pass
    return None


def _spawn(files: InstanceFiles, port: int | None) -> "subprocess.Popen[bytes]":
    """The supervisor in a session of its own, so that closing the terminal does not end docray."""
    command = [sys.executable, "-m", "docray.instance.supervisor", "--data-dir", str(files.data_dir)]
    command += ["--port", str(port)] if port else []
    files.instance.unlink(missing_ok=True)
    with (files.logs / "supervisor.log").open("ab") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, cwd=files.data_dir,
            env=environment.child_environment(PYTHONPATH=str(Path(__file__).resolve().parents[2])),
        )  # fmt: skip


def _await_ready(files: InstanceFiles, process: "subprocess.Popen[bytes] | None", tell: Callable[[str], None]) -> Instance:
    stop = time.monotonic() + _READY_TIMEOUT_S
    while time.monotonic() < stop:
        instance = files.read()
        if instance and instance.pid == supervisor_pid(files) and answers(f"{instance.url}/readyz"):
            return instance
        if (process and process.poll() is not None) or (process is None and supervisor_pid(files) is None):
            raise StartFailed(f"docray did not start. The last lines of {files.logs / 'supervisor.log'}:\n{_tail(files.logs / 'supervisor.log')}")
        tell(f"Starting docray … {_last_line(files.logs / 'supervisor.log')}")
        time.sleep(0.2)
    raise StartFailed(f"docray is not ready after {_READY_TIMEOUT_S:.0f} s. See {files.logs}, and `docray doctor`.")


def _tail(path: Path, lines: int = 15) -> str:
    with contextlib.suppress(OSError):
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    return ""


def _last_line(path: Path) -> str:
    return _tail(path, 1).rpartition(" INFO ")[2][:80]
