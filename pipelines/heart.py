"""A run's heartbeat: keeps the driver's lease on a thread, tells progress, and notes when the run must not go on."""

import contextlib
import logging
import threading
import time

from docray.domain.bulk import BulkRun
from docray.domain.errors import DocrayError, LostLease
from pipelines import report
from pipelines.desk import Desk
from pipelines.plan import Plan

log = logging.getLogger("docray.bulk")

TICK_S = 5.0


class TooManyFailures(RuntimeError):
    """More files failed than `--max-failures` allows."""

    @property
    def reason(self) -> tuple[str, str]:
        """(code, message), as a run that has failed tells it."""
        return "too_many_failures", str(self)


class Heart:
    """Keeps the driver's lease while the block runs, tells progress, and notes when the run must not go on."""

    def __init__(self, desk: Desk, plan: Plan, max_failures: int | None, samples: list[dict[str, float]]) -> None:
        self._desk = desk
        self._plan = plan
        self._max_failures = max_failures
        self._samples = samples
        self._stop = threading.Event()
        self._error: LostLease | TooManyFailures | None = None
        self._closed = False
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

    @property
    def closed(self) -> bool:
        """Whether the run was ended here."""
        return self._closed

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

    def _end(self, error: "LostLease | TooManyFailures") -> None:
        """Ray Data cannot be asked to stop from outside. But a run that has ended has no driver, so the next file that an operator takes up
        raises LostLease there, and with it the executor."""
        self._error = error
        if isinstance(error, TooManyFailures):
            with contextlib.suppress(DocrayError):  # then it ends with the pass
                self._desk.close(self._plan, error.reason)
                self._closed = True
