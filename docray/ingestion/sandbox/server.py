"""The clean parser server: a process without secrets that loads the engines once and forks a child per file.

Started by `client` with an empty environment and one descriptor, the control socket. Single-threaded, so that forking is safe and costs
some 10 ms instead of the two seconds that loading the engines takes. Owns children: starting, their wall clock, reaping. Leaves what they
do to a module of jobs: `docray.ingestion.sandbox.jobs`, or another one that a test names.
"""

import array
import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NoReturn

from docray.ingestion.sandbox import wire
from docray.ingestion.sandbox.child import live
from docray.ingestion.sandbox.confinement import confine

MAX_MESSAGE_BYTES = 1 << 16
_PROBE_MEMORY_BYTES = 64 << 20


@dataclass(slots=True)
class _Child:
    id: int
    deadline: float
    timed_out: bool = False


def main(control: int, jobs: str, engine: str) -> NoReturn:
    """Serves until the client closes its end of the control socket."""
    module = importlib.import_module(jobs)
    abilities = module.prepare(engine)
    gc.collect()
    gc.freeze()  # what is loaded now is shared with every child and never collected, so its pages stay shared
    gc.disable()
    server = Server(socket.socket(fileno=control), module)
    server.tell({"event": "ready", **abilities, **_what_holds()})
    server.serve()
    os._exit(0)


class Server:
    """Forks and watches. One request a message; two descriptors come with it: the file and the pipe to write to."""

    def __init__(self, control: socket.socket, module: ModuleType) -> None:
        self._control = control
        self._jobs = module.JOBS
        self._children: dict[int, _Child] = {}
        self._woken, self._waker = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._waker, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at a terminal reaches the whole group; the client decides
        signal.set_wakeup_fd(self._waker)

    def serve(self) -> None:
        """Until the control socket closes; then every child is killed."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        open_ = True
        while open_:
            for descriptor, _ in poll.poll(self._next_deadline_ms()):
                if descriptor == self._woken:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._woken, 512)
                else:
                    open_ = self._receive()
            self._reap()
            self._kill_late()
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)

    def tell(self, message: dict[str, Any]) -> None:
        """Sends the client a message; a client that is gone needs none."""
        with contextlib.suppress(OSError):
            self._control.send(wire.pack(message))

    def _receive(self) -> bool:
        message, descriptors = _receive(self._control)
        if not message:
            return False
        request = wire.unpack(message)
        if request["op"] == "start" and len(descriptors) == 2:
            self._start(request, *descriptors)
        elif request["op"] == "kill":
            self._kill(request["id"])
        for descriptor in descriptors:
            os.close(descriptor)
        return True

    def _start(self, request: dict[str, Any], input_fd: int, output_fd: int) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            live(self._jobs[request["job"]], request, input_fd, output_fd, parent)
        self._children[pid] = _Child(request["id"], time.monotonic() + request["time_s"])

    def _kill(self, id_: int) -> None:
        for pid, child in self._children.items():
            if child.id == id_:
                os.kill(pid, signal.SIGKILL)

    def _kill_late(self) -> None:
        now = time.monotonic()
        for pid, child in self._children.items():
            if child.deadline <= now and not child.timed_out:
                child.timed_out = True
                os.kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        for pid in list(self._children):
            done, status, usage = os.wait4(pid, os.WNOHANG)
            if done:
                child = self._children.pop(pid)
                signal_ = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
                self.tell({"event": "ended", "id": child.id, "signal": signal_, "timed_out": child.timed_out, "peak_bytes": usage.ru_maxrss * 1024})

    def _next_deadline_ms(self) -> int | None:
        waiting = [child.deadline for child in self._children.values() if not child.timed_out]
        return max(0, int((min(waiting) - time.monotonic()) * 1000) + 1) if waiting else None


def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    """One message and the descriptors that came with it, closed on exec and out of the way of 0, 1 and 2."""
    descriptors = array.array("i")
    message, ancillary, _, _ = control.recvmsg(MAX_MESSAGE_BYTES, socket.CMSG_SPACE(2 * descriptors.itemsize))
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return message, list(descriptors)


def _what_holds() -> dict[str, Any]:
    """Confines a child that does nothing else, to learn what this kernel can do."""
    reading, writing = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            holds = confine(_PROBE_MEMORY_BYTES, 1.0, parent)
            os.write(writing, wire.pack({"landlock": holds.landlock, "seccomp": holds.seccomp}))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    return wire.unpack(answer) if answer else {"landlock": 0, "seccomp": False}


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
