"""One program that the supervisor keeps running: started with a log file, restarted when it dies, stopped by its process id."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

_RESTART_DELAYS_S = (0.0, 1.0, 2.0, 5.0, 10.0)
_CALM_AFTER_S = 60.0  # a program that ran this long starts over with the first delay


class Child:
    """A supervised program. Its process leads a group of its own, so that nothing of it is left behind."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str],
        cwd: Path,
        stop_signal: signal.Signals = signal.SIGTERM,
        user: int | None = None,
    ) -> None:
        self.name = name
        self._command = list(command)
        self._log = log
        self._environment = dict(environment)
        self._cwd = cwd
        self._stop_signal = stop_signal
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._failures = 0

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Starts it; its output is appended to its log."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                env=self._environment, cwd=self._cwd, start_new_session=True, user=self._user,
            )  # fmt: skip
        self._started = time.monotonic()

    def died(self) -> bool:
        """Whether it was started and runs no more."""
        return self._process is not None and self._process.poll() is not None

    def restart_delay_s(self) -> float:
        """How long to wait before the next start; grows while it dies young."""
        self._failures = 0 if time.monotonic() - self._started > _CALM_AFTER_S else self._failures + 1
        return _RESTART_DELAYS_S[min(self._failures, len(_RESTART_DELAYS_S) - 1)]

    def stop(self, grace_s: float) -> None:
        """Asks it to end, and ends its whole family after the grace."""
        if self._process is None:
            return
        end_family(self._process.pid, self._stop_signal, grace_s)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self._process = None


def end_family(pid: int, ask_with: signal.Signals, grace_s: float) -> None:
    """Signals one process, waits, then kills it and all its descendants, whom it listed before any could be orphaned."""
    try:
        leader = psutil.Process(pid)
        family = [leader, *leader.children(recursive=True)]
    except psutil.NoSuchProcess:
        family = []
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, ask_with)
    _, alive = psutil.wait_procs(family, timeout=grace_s)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=5)
