"""Jobs that try what a hijacked parser would try. Loaded by a parser server in tests only, as its job module.

Each answers with one FINISHED frame: `{"denied": bool, "detail": str}`; those that end their process answer nothing.
"""

import ctypes
import os
import platform
import resource
import signal
import socket
import stat
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from docray.ingestion.sandbox import wire

Emit = Callable[[bytes, bytes], None]
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
# name → number on x86-64, on ARM
_NUMBERS = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "memfd_create": (319, 279),
    "execveat": (322, 281),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "mount": (165, 40),
    "keyctl": (250, 219),
    "unshare": (272, 97),
    "pidfd_open": (434, 434),
    "perf_event_open": (298, 241),
    "open_by_handle_at": (304, 265),
    "clone3": (435, 435),
}
SYSTEM_CALLS = {name: numbers[platform.machine() != "x86_64"] for name, numbers in _NUMBERS.items()}
_CLONE_NEWUSER = 0x10000000
_PTRACE_ATTACH = 16


def prepare(engine: str) -> dict[str, Any]:
    """Nothing to load."""
    return {"engines": [], "structure": False}


def _attempt(action: Callable[[], object]) -> Callable[[memoryview, Mapping[str, Any], Emit], None]:
    def job(data: memoryview, arguments: Mapping[str, Any], emit: Emit) -> None:
        try:
            result = {"denied": False, "detail": repr(action())[:200]}
        except OSError as error:
            result = {"denied": True, "detail": repr(error)}
        emit(wire.FINISHED, wire.pack(result))

    return job


def _read(path: str) -> str:
    with open(path) as file:
        return file.read(100)


def _write(path: str) -> None:
    with open(path, "w") as file:
        file.write("here")


def _connect() -> None:
    with socket.socket() as client:
        client.connect(("127.0.0.1", 9))


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def _raw(name: str, *arguments: int) -> None:
    padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    if _libc.syscall(SYSTEM_CALLS[name], *map(ctypes.c_long, padded)) < 0:
        raise OSError(ctypes.get_errno(), name)


def _executable_memory() -> None:
    _libc.mmap.restype = ctypes.c_void_p
    if _libc.mmap(None, ctypes.c_size_t(4096), 0x7, 0x22, -1, ctypes.c_long(0)) == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "mmap")


def _raise_limit() -> None:
    try:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except ValueError as error:
        raise PermissionError(str(error)) from error


def _thread() -> str:
    said: list[str] = []
    thread = threading.Thread(target=said.append, args=("a thread ran",))
    thread.start()
    thread.join()
    return said[0]


def _environment(data: memoryview, arguments: Mapping[str, Any], emit: Emit) -> None:
    names = sorted(os.environ)
    emit(wire.FINISHED, wire.pack({"environment": names, "user": os.geteuid(), "text": bytes(data[:8]).decode()}))


def _eat_memory(data: memoryview, arguments: Mapping[str, Any], emit: Emit) -> None:
    held = [bytearray(16 << 20) for _ in range(1000)]
    emit(wire.FINISHED, wire.pack({"denied": False, "detail": str(len(held))}))


def _burn(data: memoryview, arguments: Mapping[str, Any], emit: Emit) -> None:
    while True:
        pass


def _sleep(data: memoryview, arguments: Mapping[str, Any], emit: Emit) -> None:
    time.sleep(600)


def _crash(data: memoryview, arguments: Mapping[str, Any], emit: Emit) -> None:
    ctypes.string_at(0)


def _abort(data: memoryview, arguments: Mapping[str, Any], emit: Emit) -> None:
    os.abort()


def _leave(data: memoryview, arguments: Mapping[str, Any], emit: Emit) -> None:
    os._exit(3)


def _shout(data: memoryview, arguments: Mapping[str, Any], emit: Emit) -> None:
    output = next(descriptor for descriptor in range(3, 32) if _is_pipe(descriptor))
    os.write(output, wire.HEADER.pack(wire.PAGE, 0xFFFFFFF0))
    time.sleep(600)


def _is_pipe(descriptor: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    except OSError:
        return False


DENIED: Mapping[str, Callable[[], object]] = {
    "read a file": lambda: _read("/etc/passwd"),
    "read its own environment": lambda: _read("/proc/self/environ"),
    "read its parent's environment": lambda: _read(f"/proc/{os.getppid()}/environ"),
    "list a folder": lambda: os.listdir("/"),
    "look at a file": lambda: os.stat("/etc/passwd"),
    "write a file": lambda: _write("/tmp/docray-sandbox-probe"),
    "make a folder": lambda: os.mkdir("/tmp/docray-sandbox-probe"),
    "connect": _connect,
    "open a local socket": lambda: socket.socket(socket.AF_UNIX),
    "open a netlink socket": lambda: socket.socket(16, socket.SOCK_RAW),
    "run a program": lambda: os.execv("/bin/true", ["/bin/true"]),
    "fork": _fork,
    "kill its parent": lambda: os.kill(os.getppid(), signal.SIGKILL),
    "kill everything": lambda: os.kill(-1, signal.SIGKILL),
    "trace its parent": lambda: _raw("ptrace", _PTRACE_ATTACH, os.getppid()),
    "read its parent's memory": lambda: _raw("process_vm_readv", os.getppid()),
    "make a nameless file": lambda: _raw("memfd_create"),
    "run a nameless file": lambda: _raw("execveat"),
    "load a kernel programme": lambda: _raw("bpf"),
    "handle page faults": lambda: _raw("userfaultfd"),
    "use io_uring": lambda: _raw("io_uring_setup", 8),
    "mount": lambda: _raw("mount"),
    "use kernel keys": lambda: _raw("keyctl"),
    "enter other name spaces": lambda: _raw("unshare", _CLONE_NEWUSER),
    "open a process": lambda: _raw("pidfd_open", os.getppid()),
    "measure": lambda: _raw("perf_event_open"),
    "open a file by handle": lambda: _raw("open_by_handle_at"),
    "make a process the new way": lambda: _raw("clone3"),
    "make memory that runs": _executable_memory,
    "raise its limits": _raise_limit,
    "become root": lambda: os.setuid(0),
}
JOBS: Mapping[str, Any] = {name: _attempt(action) for name, action in DENIED.items()} | {
    "thread": _attempt(_thread),
    "environment": _environment,
    "eat memory": _eat_memory,
    "burn": _burn,
    "sleep": _sleep,
    "crash": _crash,
    "abort": _abort,
    "leave": _leave,
    "shout": _shout,
}
