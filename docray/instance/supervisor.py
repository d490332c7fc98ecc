"""Keeps one instance running: PostgreSQL, then Ray with Serve; restarts what dies; ends all it started when told to.

Runs as a process of its own (`python -m docray.instance.supervisor --data-dir …`), started by `docray up`. Owns `instance.json`,
the lock and the list of children. Leaves schema and keys to `docray.wiring`, ports and commands to its neighbours here.
"""

import argparse
import contextlib
import fcntl
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

from docray import settings as environment
from docray.instance import postgres
from docray.instance.child import Child
from docray.instance.files import Instance, InstanceFiles
from docray.instance.leftovers import MARK, end_marked, end_recorded, mark_of, record
from docray.instance.ports import next_free
from docray.instance.probing import answers
from docray.instance.ray_head import RayHead, RayPorts, project_root

log = logging.getLogger("docray.supervisor")

_START_TIMEOUT_S = 240.0
_PROBE_PERIOD_S = 3.0
_DEAF_AFTER_S = 45.0  # the API has not answered for this long although Ray runs: Ray is started again
_STOPPING = "the supervisor was told to stop"


class Stopped(Exception):
    """Raised in a wait when SIGTERM came."""


class Supervisor:
    """One instance's keeper."""

    def __init__(self, settings: environment.Settings) -> None:
        self._settings = settings
        self._files = InstanceFiles.of(settings.data_dir)
        self._stop = threading.Event()
        self._postgres: Child | None = None
        self._ray: Child | None = None
        self._head: RayHead | None = None
        self._environment: dict[str, str] = {}
        self._port = settings.port

    def run(self) -> int:
        """Until SIGTERM or SIGINT; 0 when it ended as asked, 1 when the start failed."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())
        self._files.prepare()
        with self._only_one():
            end_recorded(self._files)
            try:
                self._start()
                self._watch()
            except Stopped:
                pass
            except Exception:
                log.exception("the start failed")
                return 1
            finally:
                self._end()
        return 0

    @contextlib.contextmanager
    def _only_one(self) -> Iterator[None]:
        with self._files.lock.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SystemExit("another supervisor runs this data folder") from None
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    # --- starting ------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """PostgreSQL and Ray start side by side; Serve is deployed when the schema is current."""
        self._port = next_free(self._settings.port)
        folder = self._files.postgres
        if self._settings.database_dsn is None:
            self._start_postgres(folder)
        self._environment = {**environment.child_environment(), **self._store_environment(folder)}
        self._start_ray()
        from docray import wiring  # brings in all of docray, a second's work: Ray starts meanwhile

        if self._settings.database_dsn is None:
            self._wait_for("PostgreSQL", lambda: postgres.is_ready(folder))
        api_key = wiring.prepare_database(self._settings, admin_dsn=self._admin_dsn(folder), app_dsn=self._app_dsn(folder), secrets=self._files)
        self._deploy()
        assert self._head is not None
        url = f"http://127.0.0.1:{self._port}"
        self._files.write(
            Instance(url=url, dashboard_url=self._head.dashboard_url, data_dir=str(self._files.data_dir), api_key=api_key, pid=os.getpid())
        )
        log.info("ready at %s", url)

    def _start_postgres(self, folder: Path) -> None:
        postgres.ensure_initialised(folder)
        self._postgres = Child(
            "postgres", postgres.command(folder), log=self._files.logs / "postgres.log", environment=environment.child_environment(),
            cwd=self._files.data_dir, stop_signal=signal.SIGINT,
        )  # fmt: skip
        self._postgres.start()
        self._note_children()

    def _store_environment(self, folder: Path) -> dict[str, str]:
        found = {"DOCRAY_DATA_DIR": str(self._files.data_dir), MARK: mark_of(self._files)}
        if self._settings.database_dsn is None:
            found["DOCRAY_DATABASE_DSN"] = self._app_dsn(folder)
            found["DOCRAY_DATABASE_WORKER_DSN"] = postgres.dsn(folder, "docray_worker")
        return found

    def _app_dsn(self, folder: Path) -> str:
        given = self._settings.database_dsn
        return given.get_secret_value() if given else postgres.dsn(folder, "docray_app")

    def _admin_dsn(self, folder: Path) -> str:
        if self._settings.database_dsn is None:
            return postgres.dsn(folder, postgres.SUPERUSER)
        given = self._settings.database_admin_dsn or self._settings.database_dsn
        return given.get_secret_value()

    def _start_ray(self) -> None:
        forget_old_sessions(self._files.run / "ray")
        self._head = RayHead(self._files, RayPorts.choose(), num_cpus=max(2, os.cpu_count() or 2), environment=self._environment)
        self._ray = Child("ray", self._head.command(), log=self._files.logs / "ray.log", environment=self._head.environment(), cwd=project_root())
        self._ray.start()
        self._note_children()

    def _deploy(self) -> None:
        """The API first, alone, then what works in the background: until it runs, uploads wait in the queue, accepted and safe."""
        assert self._head is not None
        head, port, embedder = self._head, self._port, self._settings.embedder
        self._wait_for("Ray", head.answers)
        self._wait_for("Serve", lambda: head.deploy(port, embedder, answering_only=True))
        self._wait_for("the API", lambda: answers(f"http://127.0.0.1:{port}/readyz"))
        self._wait_for("the deployment of the workers", lambda: head.deploy(port, embedder))

    def _wait_for(self, what: str, holds: Callable[[], bool]) -> None:
        started = time.monotonic()
        while not holds():
            if self._stop.wait(0.2):
                raise Stopped(_STOPPING)
            for child in self._children():
                if child.died():
                    raise RuntimeError(f"{child.name} ended while {what} was awaited; see {self._files.logs / (child.name + '.log')}")
            if time.monotonic() - started > _START_TIMEOUT_S:
                raise TimeoutError(f"{what} did not answer within {_START_TIMEOUT_S:.0f} s")
        log.info("%s answers after %.1f s", what, time.monotonic() - started)

    # --- running -------------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Once a second: is everything alive? Every few seconds: does the API still answer?"""
        last_answer = last_probe = time.monotonic()
        while not self._stop.wait(0.5):
            if self._postgres and self._postgres.died():
                self._revive_database()
            if self._ray and self._ray.died():
                self._revive_ray("Ray ended")
                last_answer = time.monotonic()
            if time.monotonic() - last_probe >= _PROBE_PERIOD_S:
                last_probe = time.monotonic()
                if answers(f"http://127.0.0.1:{self._port}/healthz"):
                    last_answer = last_probe
                elif last_probe - last_answer > _DEAF_AFTER_S:
                    self._revive_ray("the API does not answer")
                    last_answer = time.monotonic()

    def _revive_database(self) -> None:
        assert self._postgres is not None
        delay_s = self._postgres.restart_delay_s()
        log.warning("PostgreSQL ended; starting it again in %.0f s", delay_s)
        if not self._stop.wait(delay_s):
            self._postgres.start()
            self._note_children()

    def _revive_ray(self, why: str) -> None:
        """Serve's state dies with the head, so everything is deployed anew; PostgreSQL knows what was in work."""
        assert self._ray is not None
        delay_s = self._ray.restart_delay_s()
        log.warning("%s; starting Ray again in %.0f s", why, delay_s)
        self._ray.stop(5.0)
        end_marked(mark_of(self._files))
        if self._stop.wait(delay_s):
            return
        try:
            self._start_ray()
            self._deploy()
        except (RuntimeError, TimeoutError, httpx.HTTPError):
            log.exception("Ray did not start; trying again")

    # --- ending --------------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        self._files.instance.unlink(missing_ok=True)
        for child, grace_s in ((self._ray, 15.0), (self._postgres, 15.0)):
            if child:
                child.stop(grace_s)
        end_recorded(self._files)

    def _children(self) -> list[Child]:
        return [child for child in (self._postgres, self._ray) if child]

    def _note_children(self) -> None:
        record(self._files, self._children())


def forget_old_sessions(folder: Path) -> None:
    """Ray keeps the logs of every start; the last one's stay, for whoever looks into why it ended."""
    sessions = sorted(each for each in folder.glob("session_2*") if each.is_dir())
    for session in sessions[:-1]:
        shutil.rmtree(session, ignore_errors=True)


def main() -> int:
    """The supervisor's process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    given = {"data_dir": Path(options.data_dir), **({"port": options.port} if options.port else {})}
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    return Supervisor(environment.load(**given)).run()


if __name__ == "__main__":
    raise SystemExit(main())
