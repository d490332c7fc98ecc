"""The life of one child after the fork: closes what it does not need, confines itself, does its job, ends.

Owns the order of these steps and what an exception becomes. Leaves the job to its module, rights to `confinement`.
"""

import contextlib
import mmap
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from docray.domain.documents import FailureCode
from docray.ingestion.extract.pieces import Unreadable
from docray.ingestion.sandbox import wire
from docray.ingestion.sandbox.confinement import confine

Emit = Callable[[bytes, bytes], None]
Job = Callable[[memoryview, Mapping[str, Any], Emit], None]


def live(job: Job, request: Mapping[str, Any], input_fd: int, output_fd: int, parent: int) -> NoReturn:
    """Runs `job` over the file behind `input_fd` and never returns; frames go to `output_fd`."""
    emit = _emitter(output_fd)
    try:
        _leave_parent(input_fd, output_fd)
        with _mapped(input_fd) as data:
            holds = confine(request["memory_bytes"] + len(data), request["time_s"], parent)
            emit(wire.CONFINED, wire.pack({"landlock": holds.landlock, "seccomp": holds.seccomp}))
            job(data, request["arguments"], emit)
    except BaseException as error:
        with contextlib.suppress(BaseException):
            emit(wire.FAILED, wire.pack({"code": _code(error)}))
    finally:
        os._exit(0)  # no clean-up of the parent's state, no waiting for an engine's threads


def _code(error: BaseException) -> FailureCode:
    if isinstance(error, Unreadable):
        return error.code
    return FailureCode.MEMORY_LIMIT if isinstance(error, MemoryError) else FailureCode.PARSER_CRASH


def _leave_parent(*kept: int) -> None:
    """Default signals, no descriptors but `kept`, silent standard streams: engines print."""
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    silence = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(silence, standard)
    start = 3
    for descriptor in sorted(kept):
        os.closerange(start, descriptor)
        start = descriptor + 1
    os.closerange(start, os.sysconf("SC_OPEN_MAX"))


@contextlib.contextmanager
def _mapped(descriptor: int) -> Iterator[memoryview]:
    """The file without copying it: private pages, so that an engine may be handed a writable buffer."""
    if os.fstat(descriptor).st_size == 0:
        yield memoryview(b"")
        return
    yield memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY))


def _emitter(descriptor: int) -> Emit:
    def emit(kind: bytes, body: bytes) -> None:
        left = memoryview(wire.frame(kind, body))
        while left:
            left = left[os.write(descriptor, left) :]

    return emit
